// POST /v1/completions (server-api 6).

#include <algorithm>
#include <fmt/core.h>
#include <utility>

#include "server/completions_answer.h"
#include "server/raw_prompts.h"
#include "server/route.h"

namespace facet {
namespace {

constexpr int32_t kDefaultTokens = 16;

/// Keeps the last `keep` tokens; -1: as many as leave room for the answer.
void truncate(RawPrompt& prompt, int64_t keep, int32_t cap, const ServedModel& model) {
  if (keep < 0) keep = std::max<int64_t>(1, model.max_model_len - std::max(cap, 1));
  const auto excess = std::ssize(prompt.ids) - keep;
  if (excess <= 0) return;
  prompt.ids.erase(prompt.ids.begin(), prompt.ids.begin() + excess);
  prompt.added_bos = false;
}

void read_cap(Fields& fields, bool echo, GenerationFields& out) {
  const auto cap = fields.count("max_tokens", echo ? 0 : 1);
  const auto other = fields.count("max_completion_tokens", echo ? 0 : 1);
  out.max_tokens = other ? *other : cap.value_or(kDefaultTokens);
}

}  // namespace

Prepared prepare_completions(const Value& body, const RouteContext& context) {
  const ServedModel& model = context.model;
  Fields fields(body);
  GenerationFields generation;
  read_common(fields, model, context.settings, generation);
  const bool echo = fields.flag("echo");
  read_cap(fields, echo, generation);
  const auto logprobs = fields.integer("logprobs", 0, 5);
  const auto keep = fields.integer("truncate_prompt_tokens", -1, INT32_MAX);
  if (keep && *keep == 0)
    fields.fail(ApiCode::kInvalidValue, "truncate_prompt_tokens",
                "found 0, wanted -1, or 1 or more");
  std::vector<RawPrompt> prompts = read_raw_prompts(fields, "prompt", model);
  finish_fields(fields, context.settings, "/v1/completions");

  Prepared prepared;
  for (RawPrompt& prompt : prompts) {
    if (keep) truncate(prompt, *keep, *generation.max_tokens, model);
    const int32_t cap = answer_cap(prompt.ids.size(), generation.max_tokens, context, "prompt");
    Request request = make_request(generation, context, prompt.ids, cap);
    if (logprobs) request.logprobs = static_cast<int32_t>(*logprobs);
    if (echo && logprobs) {
      request.prompt_logprobs =
          std::max(request.prompt_logprobs.value_or(0), static_cast<int32_t>(*logprobs));
    }
    prepared.requests.push_back(std::move(request));
  }

  CompletionsOptions options;
  options.shape.control = generation.skip_special_tokens ? ControlText::kDrop : ControlText::kShow;
  options.shape.stop = generation.stop;
  options.shape.stop_text = generation.stop_text;
  options.shape.stop_ids = generation.stop_token_ids;
  options.style =
      answer_style(generation, logprobs.has_value(),
                   answer_head(fresh_id("cmpl-"), "text_completion", generation.model, context));
  options.prompts = std::move(prompts);
  options.choices_per_prompt = generation.n;
  options.echo = echo;
  options.top_logprobs = static_cast<int32_t>(logprobs.value_or(0));
  prepared.stream = generation.stream;
  prepared.drawn_seed = generation.drawn_seed;
  prepared.log_id = generation.request_id;
  prepared.answer = make_completions_answer(std::move(options), model.tokenizer);
  return prepared;
}

}  // namespace facet
