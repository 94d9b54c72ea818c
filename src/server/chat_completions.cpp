// POST /v1/chat/completions (server-api 5).

#include <algorithm>
#include <utility>

#include "server/answer_guide.h"
#include "server/chat_answer.h"
#include "server/chat_fields.h"
#include "server/route.h"
#include "tokenizer/control_tokens.h"

namespace facet {
namespace {

std::vector<int32_t> prompt_ids(const ChatPrompt& prompt, const ServedModel& model) {
  std::vector<int32_t> ids;
  for (const TokenId id : to_ids(prompt.items, model.tokenizer)) ids.push_back(to_index(id));
  return ids;
}

void read_cap(Fields& fields, GenerationFields& out) {
  for (const char* name : {"max_tokens", "max_completion_tokens"}) {
    if (const auto cap = fields.count(name, 1)) out.max_tokens = *cap;
  }
}

/// How many alternatives to list per token; nothing if logprobs are not asked for.
std::optional<int32_t> read_logprobs(Fields& fields) {
  const bool wanted = fields.flag("logprobs");
  const auto top = fields.integer("top_logprobs", 0, 20);
  if (top.value_or(0) > 0 && !wanted)
    fields.fail(ApiCode::kInvalidValue, "top_logprobs", "needs logprobs to be true");
  if (!wanted) return std::nullopt;
  return static_cast<int32_t>(top.value_or(0));
}

ChatShape read_shape(Fields& fields,
                     const GenerationFields& generation,
                     const ChatPrompt& prompt,
                     const ServerSettings& settings) {
  ChatShape shape;
  shape.output.thinking = prompt.thinking;
  shape.output.open_thought = prompt.open_thought;
  if (prompt.tools != nullptr) shape.output.tools = declared_tools(*prompt.tools);
  shape.output.stop = generation.stop;
  shape.output.stop_text = generation.stop_text;
  shape.output.text = OutputText::kEventsOnly;
  shape.stop_ids = generation.stop_token_ids;
  shape.raw = fields.flag("raw_output");
  shape.keep_thoughts = fields.boolean("include_reasoning").value_or(true);
  shape.thoughts_in_content = !fields.boolean("separate_reasoning").value_or(true);
  shape.whole_calls = settings.tool_stream == ToolStream::kWhole;
  shape.one_call = !prompt.parallel_tool_calls;
  shape.named_call = prompt.tool_choice.named;
  return shape;
}

/// Nothing where no token is ever limited.
std::optional<CallGuideOptions> guide_options(const ChatPrompt& prompt,
                                              const ServerSettings& settings) {
  const ToolChoice& choice = prompt.tool_choice;
  const bool calls = choice.mode != ToolChoice::Mode::kNone;
  const bool budget = prompt.thinking && prompt.thinking_budget;
  if (!calls && !budget) return std::nullopt;
  CallGuideOptions options;
  options.thinking = prompt.thinking;
  options.open_thought = prompt.open_thought;
  if (budget) options.thought_budget = prompt.thinking_budget;
  if (!calls) return options;
  options.required = choice.mode == ToolChoice::Mode::kRequired;
  options.single_call = !prompt.parallel_tool_calls;
  const bool always = settings.tool_schema == ToolSchema::kAlways;
  options.tools = call_tools(*prompt.tools, always ? ArgumentRule::kDeclared : ArgumentRule::kFree);
  if (!choice.allowed.empty()) {
    std::erase_if(options.tools, [&](const CallTool& tool) {
      return std::find(choice.allowed.begin(), choice.allowed.end(), tool.name) ==
             choice.allowed.end();
    });
  }
  return options;
}

}  // namespace

Prepared prepare_chat(const Value& body, const RouteContext& context) {
  const ServedModel& model = context.model;
  Fields fields(body);
  GenerationFields generation;
  read_common(fields, model, context.settings, generation);
  read_cap(fields, generation);
  const std::optional<int32_t> logprobs = read_logprobs(fields);
  const ChatPrompt prompt = read_chat_prompt(fields, model, context.settings);
  ChatShape shape = read_shape(fields, generation, prompt, context.settings);
  finish_fields(fields, context.settings, "/v1/chat/completions");

  std::vector<int32_t> ids = prompt_ids(prompt, model);
  const int32_t cap = answer_cap(ids.size(), generation.max_tokens, context, "messages");
  Request request = make_request(generation, context, ids, cap);
  request.logprobs = logprobs;
  // raw_output changes what is written of the tokens, not which they are.
  if (prompt.tool_choice.mode == ToolChoice::Mode::kNone)
    request.never_ids.push_back(to_index(control::kToolCallOpen));
  if (auto guide = guide_options(prompt, context.settings))
    request.make_guide = answer_guides(model.table, std::move(*guide));
  // The parser takes <|turn> for an end token.
  if (generation.ignore_eos) request.never_ids.push_back(to_index(control::kTurnOpen));

  ChatAnswerOptions options;
  options.shape = std::move(shape);
  options.style =
      answer_style(generation, logprobs.has_value(),
                   answer_head(fresh_id("chatcmpl-"),
                               generation.stream ? "chat.completion.chunk" : "chat.completion",
                               generation.model, context));
  options.prompt = std::move(ids);
  options.choices = generation.n;
  options.reasoning_field = context.settings.reasoning_field;

  Prepared prepared;
  prepared.requests.push_back(std::move(request));
  prepared.stream = generation.stream;
  prepared.drawn_seed = generation.drawn_seed;
  prepared.log_id = generation.request_id;
  prepared.answer = make_chat_answer(std::move(options), model.tokenizer);
  return prepared;
}

}  // namespace facet
