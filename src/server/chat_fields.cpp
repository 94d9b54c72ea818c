#include "server/chat_fields.h"

#include <algorithm>
#include <array>
#include <fmt/core.h>

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

/// reasoning.effort and reasoning_effort.
std::optional<bool> effort(Fields& fields, const char* name) {
  constexpr std::array<std::string_view, 7> kLevels = {"none", "minimal", "low", "medium",
                                                       "high", "xhigh",   "max"};
  const std::string* level = fields.string(name);
  if (level == nullptr) return std::nullopt;
  if (std::find(kLevels.begin(), kLevels.end(), *level) == kLevels.end()) {
    fields.fail(ApiCode::kInvalidValue, name,
                fmt::format("found \"{}\", wanted none, minimal, low, medium, high, xhigh or max",
                            printable(*level, 40)));
  }
  return *level != "none";
}

/// The field `thinking`: a boolean, or {"type", "budget_tokens"}.
std::optional<bool> thinking_field(Fields& fields, std::optional<int32_t>& budget) {
  const Value* thinking = fields.find("thinking");
  if (thinking == nullptr) return std::nullopt;
  if (thinking->kind() == Value::Kind::kBool) return thinking->boolean();
  Fields object = *fields.object("thinking");
  if (const auto tokens = object.integer("budget_tokens", 0, INT32_MAX))
    budget = static_cast<int32_t>(*tokens);
  const std::string* type = object.string("type");
  if (type == nullptr) return std::nullopt;
  if (*type != "enabled" && *type != "adaptive" && *type != "disabled") {
    object.fail(
        ApiCode::kInvalidValue, "type",
        fmt::format("found \"{}\", wanted enabled, adaptive or disabled", printable(*type, 40)));
  }
  return *type != "disabled";
}

/// Thinking and preserve_thinking (server-api 5.6): the first field that says so decides.
void read_reasoning(Fields& fields, ChatPrompt& prompt, RenderOptions& render) {
  std::optional<bool> by_template;
  if (std::optional<Fields> kwargs = fields.object("chat_template_kwargs")) {
    by_template = kwargs->boolean("enable_thinking");
    render.preserve_thinking = kwargs->flag("preserve_thinking");
    const auto unknown = kwargs->unknown();
    if (!unknown.empty()) kwargs->refuse_feature(printable(unknown.front(), 60));
  }
  const std::optional<bool> by_thinking = thinking_field(fields, prompt.thinking_budget);
  std::optional<bool> by_reasoning;
  if (std::optional<Fields> reasoning = fields.object("reasoning")) {
    by_reasoning = effort(*reasoning, "effort");
    const auto enabled = reasoning->boolean("enabled");
    if (!by_reasoning) by_reasoning = enabled;
  }
  const std::optional<bool> by_effort = effort(fields, "reasoning_effort");
  for (const char* name : {"thinking_budget", "thinking_token_budget"}) {
    if (const auto tokens = fields.integer(name, 0, INT32_MAX))
      prompt.thinking_budget = static_cast<int32_t>(*tokens);
  }
  for (const auto& said : {by_template, by_thinking, by_reasoning, by_effort}) {
    if (!said) continue;
    render.enable_thinking = *said;
    break;
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

ChatPrompt read_chat_prompt(Fields& fields, const ServedModel& model) {
  ChatPrompt prompt;
  RenderOptions options = model.render;
  const Value& messages = checked_messages(fields);
  read_tools(fields, prompt);
  read_reasoning(fields, prompt, options);
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

}  // namespace facet
