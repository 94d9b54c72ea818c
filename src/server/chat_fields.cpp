#include "server/chat_fields.h"

#include <algorithm>
#include <array>
#include <fmt/core.h>
#include <fmt/ranges.h>

#include "base/text.h"
#include "chat/messages.h"
#include "server/tool_fields.h"
#include "tokenizer/control_tokens.h"

namespace facet {
namespace {

constexpr size_t kMostMessages = 4096;
constexpr size_t kMostParts = 256;

ApiCode code_of(MessageFault fault) {
  switch (fault) {
    case MessageFault::kMissing:
      return ApiCode::kMissingField;
    case MessageFault::kType:
      return ApiCode::kInvalidType;
    case MessageFault::kArguments:
      return ApiCode::kInvalidToolArguments;
    case MessageFault::kValue:
      break;
  }
  return ApiCode::kInvalidValue;
}

/// Parts that are neither text nor ignored are of features that are not there.
void check_parts(const Value::Array& parts, const std::string& place) {
  constexpr std::array<std::string_view, 4> kKnown = {"text", "input_text", "output_text",
                                                      "refusal"};
  if (parts.size() > kMostParts) {
    throw ApiError(
        ApiCode::kInvalidValue,
        fmt::format("{}: found {} parts, wanted at most {}", place, parts.size(), kMostParts),
        place);
  }
  for (size_t i = 0; i < parts.size(); ++i) {
    const Value* type = parts[i].find("type");
    if (type == nullptr || !type->is_string()) continue;  // read_messages says so
    if (std::find(kKnown.begin(), kKnown.end(), type->string()) != kKnown.end()) continue;
    const std::string at = fmt::format("{}[{}]", place, i);
    throw ApiError(ApiCode::kUnsupportedMedia,
                   fmt::format("{}: parts of type \"{}\" are not supported by this server", at,
                               printable(type->string(), 40)),
                   at);
  }
}

const Value& checked_messages(Fields& fields) {
  const Value& messages = fields.required("messages");
  const Value::Array* list = fields.array("messages");
  if (list->empty() || list->size() > kMostMessages) {
    fields.fail(ApiCode::kInvalidValue, "messages",
                fmt::format("found {} messages, wanted 1 to {}", list->size(), kMostMessages));
  }
  for (size_t i = 0; i < list->size(); ++i) {
    const Value* content = (*list)[i].find("content");
    if (content != nullptr && content->is_array())
      check_parts(content->array(), fmt::format("messages[{}].content", i));
  }
  return messages;
}

/// reasoning.effort and reasoning_effort; nullptr if it is not there.
const std::string* effort(Fields& fields, const char* name) {
  const std::string* level = fields.string(name);
  if (level == nullptr) return nullptr;
  if (std::find(kEffortLevels.begin(), kEffortLevels.end(), *level) == kEffortLevels.end()) {
    fields.fail(ApiCode::kInvalidValue, name,
                fmt::format("found \"{}\", wanted {}", printable(*level, 40),
                            fmt::join(kEffortLevels, ", ")));
  }
  return level;
}

/// The field `thinking`: a boolean, or {"type", "budget_tokens"}.
std::optional<bool> thinking_field(Fields& fields, std::optional<int32_t>& budget) {
  const Value* thinking = fields.find("thinking");
  if (thinking == nullptr) return std::nullopt;
  if (thinking->kind() == Value::Kind::kBool) return thinking->boolean();
  Fields object = *fields.object("thinking");
  if (const auto tokens = object.count("budget_tokens", 0)) budget = *tokens;
  const std::string* type = object.string("type");
  if (type == nullptr) return std::nullopt;
  if (*type != "enabled" && *type != "adaptive" && *type != "disabled") {
    object.fail(
        ApiCode::kInvalidValue, "type",
        fmt::format("found \"{}\", wanted enabled, adaptive or disabled", printable(*type, 40)));
  }
  return *type != "disabled";
}

/// What a request's fields about reasoning say, each by itself.
struct Reasoning {
  std::optional<bool> by_template;  // chat_template_kwargs
  std::optional<bool> by_thinking;  // thinking
  std::optional<bool> by_enabled;   // reasoning.enabled
  const std::string* effort = nullptr;
  std::optional<int32_t> budget;
};

Reasoning read_reasoning(Fields& fields, RenderOptions& render) {
  Reasoning said;
  if (std::optional<Fields> kwargs = fields.object("chat_template_kwargs")) {
    said.by_template = kwargs->boolean("enable_thinking");
    render.preserve_thinking = kwargs->flag("preserve_thinking");
    const auto unknown = kwargs->unknown();
    if (!unknown.empty()) kwargs->refuse_feature(printable(unknown.front(), 60));
  }
  said.by_thinking = thinking_field(fields, said.budget);
  if (std::optional<Fields> reasoning = fields.object("reasoning")) {
    said.effort = effort(*reasoning, "effort");
    said.by_enabled = reasoning->boolean("enabled");
  }
  const std::string* effort_alone = effort(fields, "reasoning_effort");
  // {"enabled"} alone goes before reasoning_effort, which then only sets the budget.
  if (said.effort != nullptr) said.by_enabled.reset();
  if (said.effort == nullptr) said.effort = effort_alone;
  for (const char* name : {"thinking_budget", "thinking_token_budget"}) {
    if (const auto tokens = fields.count(name, 0)) said.budget = *tokens;
  }
  return said;
}

/// Whether there is thinking, and how much (server-api 5.6): the first field that says so decides.
void decide_thinking(const Reasoning& said,
                     const EffortBudgets& budgets,
                     ChatPrompt& prompt,
                     RenderOptions& render) {
  std::optional<bool> by_effort;
  if (said.effort != nullptr) by_effort = *said.effort != "none";
  for (const auto& one : {said.by_template, said.by_thinking, said.by_enabled, by_effort}) {
    if (!one) continue;
    render.enable_thinking = *one;
    break;
  }
  prompt.thinking_budget = said.budget;
  if (!said.budget && said.effort != nullptr) {
    const auto of_level = budgets.find(*said.effort);
    if (of_level != budgets.end()) prompt.thinking_budget = of_level->second;
  }
  if (prompt.thinking_budget == 0) render.enable_thinking = false;
  prompt.thinking = render.enable_thinking;
}

void read_turns(Fields& fields, RenderOptions& render) {
  const std::optional<bool> generation = fields.boolean("add_generation_prompt");
  render.continue_final_message = fields.flag("continue_final_message");
  if (render.continue_final_message && generation.value_or(false)) {
    fields.fail(ApiCode::kInvalidValue, "add_generation_prompt",
                "cannot be true together with continue_final_message");
  }
  render.add_generation_prompt = generation.value_or(!render.continue_final_message);
}

bool ends_in_open_thought(const std::vector<PromptItem>& items) {
  return items.size() >= 2 && items[items.size() - 2].control == control::kChannelOpen &&
         items.back().text == "thought\n";
}

}  // namespace

ChatPrompt read_chat_prompt(Fields& fields,
                            const ServedModel& model,
                            const ServerSettings& settings) {
  ChatPrompt prompt;
  RenderOptions options = model.render;
  const Value& messages = checked_messages(fields);
  read_tools(fields, prompt);
  decide_thinking(read_reasoning(fields, options), settings.effort_budgets, prompt, options);
  read_turns(fields, options);
  try {
    prompt.items = render(messages, prompt.tools, options);
  } catch (const MessageError& error) {
    throw ApiError(code_of(error.fault()), error.what(), error.place());
  } catch (const Error& error) {
    // "tools[0]: function.parameters" is a path too.
    std::string path = error.place().empty() ? "messages" : error.place();
    const size_t joint = path.find(": ");
    if (joint != std::string::npos) {
      path[joint] = '.';
      path.erase(joint + 1, 1);
    }
    throw ApiError(ApiCode::kInvalidValue, error.what(), std::move(path));
  }
  prompt.open_thought = ends_in_open_thought(prompt.items);
  return prompt;
}

void check_chat_types(Fields& fields) {
  for (const char* name : {"messages", "tools"}) fields.array(name);
  for (const char* name :
       {"parallel_tool_calls", "add_generation_prompt", "continue_final_message"})
    fields.boolean(name);
  for (const char* name : {"thinking_budget", "thinking_token_budget"})
    fields.integer(name, INT64_MIN, INT64_MAX);
  fields.string("reasoning_effort");
  for (const char* name : {"reasoning", "chat_template_kwargs"}) fields.object(name);
  const Value* choice = fields.find("tool_choice");
  if (choice != nullptr && !choice->is_string()) fields.object("tool_choice");
  const Value* thinking = fields.find("thinking");
  if (thinking != nullptr && thinking->kind() != Value::Kind::kBool) fields.object("thinking");
}

}  // namespace facet
