#include "chat/messages.h"

#include <fmt/core.h>
#include <utility>

#include "base/error.h"
#include "base/text.h"
#include "tokenizer/control_tokens.h"

namespace facet {
namespace {

[[noreturn]] void fail(std::string field,
                       std::string message,
                       MessageFault fault = MessageFault::kValue) {
  throw MessageError(fault, std::move(message), std::move(field));
}

[[noreturn]] void fail_kind(std::string field, const Value* found, std::string_view wanted) {
  fail(std::move(field),
       fmt::format("found {}, wanted {}", found == nullptr ? "nothing" : kind_name(*found), wanted),
       found == nullptr ? MessageFault::kMissing : MessageFault::kType);
}

/// The string member `name`; nothing if absent or null.
std::string_view optional_string(const Value& object,
                                 std::string_view name,
                                 const std::string& place) {
  const Value* value = object.find_set(name);
  if (value == nullptr) return {};
  if (!value->is_string()) fail_kind(fmt::format("{}.{}", place, name), value, "a string or null");
  return value->string();
}

std::string_view required_string(const Value& object,
                                 std::string_view name,
                                 const std::string& place) {
  const Value* value = object.find(name);
  if (value == nullptr || !value->is_string())
    fail_kind(fmt::format("{}.{}", place, name), value, "a string");
  return value->string();
}

MessageRole read_role(const Value& message, const std::string& place) {
  const std::string_view role = required_string(message, "role", place);
  if (role == "system") return MessageRole::kSystem;
  if (role == "developer") return MessageRole::kDeveloper;
  if (role == "user") return MessageRole::kUser;
  if (role == "assistant") return MessageRole::kAssistant;
  if (role == "tool" || role == "function") return MessageRole::kTool;
  fail(place + ".role",
       fmt::format("found \"{}\", wanted system, developer, user, assistant or tool",
                   printable(role, 60)));
}

enum class PartKind { kText, kImage, kAudio, kVideo, kRefusal };

PartKind read_part_kind(const Value& part, const std::string& place) {
  const std::string_view type = required_string(part, "type", place);
  if (type == "text" || type == "input_text" || type == "output_text") return PartKind::kText;
  if (type == "image" || type == "image_url" || type == "input_image") return PartKind::kImage;
  if (type == "audio" || type == "audio_url" || type == "input_audio") return PartKind::kAudio;
  if (type == "video" || type == "video_url") return PartKind::kVideo;
  if (type == "refusal") return PartKind::kRefusal;
  fail(place + ".type", fmt::format("found \"{}\", wanted text, image_url, audio_url or video_url",
                                    printable(type, 60)));
}

/// Nothing for a part that is not rendered.
std::optional<ContentPart> read_part(const Value& part, const std::string& place) {
  if (!part.is_object()) fail_kind(place, &part, "an object");
  switch (read_part_kind(part, place)) {
    case PartKind::kText:
      return ContentPart{std::nullopt, required_string(part, "text", place)};
    case PartKind::kImage:
      return ContentPart{control::kImage, {}};
    case PartKind::kAudio:
      return ContentPart{control::kAudio, {}};
    case PartKind::kVideo:
      return ContentPart{control::kVideo, {}};
    case PartKind::kRefusal:
      break;
  }
  return std::nullopt;
}

void read_content(ChatMessage& out, const Value& message, const std::string& place) {
  const Value* content = message.find_set("content");
  if (content == nullptr) return;
  if (content->is_string()) {
    out.form = ContentForm::kString;
    out.parts.push_back({std::nullopt, content->string()});
    return;
  }
  if (!content->is_array())
    fail_kind(place + ".content", content, "a string, null or an array of parts");
  out.form = ContentForm::kParts;
  size_t index = 0;
  for (const Value& part : content->array()) {
    const auto read = read_part(part, fmt::format("{}.content[{}]", place, index++));
    if (read) out.parts.push_back(*read);
  }
}

/// The object of arguments, which may come as JSON text; nothing at all is an empty object.
Value read_arguments(const Value* arguments, const std::string& place) {
  Value decoded;
  if (arguments != nullptr && arguments->is_string()) {
    try {
      if (!arguments->string().empty()) decoded = parse_value(arguments->string());
    } catch (const Error& error) {
      fail(place, error.message(), MessageFault::kArguments);
    }
  } else if (arguments != nullptr) {
    decoded = *arguments;
  }
  if (decoded.is_null()) return Value(Value::Object{});
  if (!decoded.is_object()) {
    fail(place, fmt::format("found {}, wanted an object or JSON text of one", kind_name(decoded)),
         MessageFault::kArguments);
  }
  return decoded;
}

std::vector<ToolCall> read_calls(const Value& message, const std::string& place) {
  std::vector<ToolCall> calls;
  const Value* list = message.find_set("tool_calls");
  if (list == nullptr) return calls;
  if (!list->is_array()) fail_kind(place + ".tool_calls", list, "an array");
  for (const Value& call : list->array()) {
    const std::string at = fmt::format("{}.tool_calls[{}]", place, calls.size());
    if (!call.is_object()) fail_kind(at, &call, "an object");
    const Value* function = call.find("function");
    if (function == nullptr || !function->is_object())
      fail_kind(at + ".function", function, "an object");
    calls.push_back({optional_string(call, "id", at),
                     required_string(*function, "name", at + ".function"),
                     read_arguments(function->find("arguments"), at + ".function.arguments")});
  }
  return calls;
}

ChatMessage read_message(const Value& message, const std::string& place) {
  if (!message.is_object()) fail_kind(place, &message, "an object");
  ChatMessage out;
  out.role = read_role(message, place);
  read_content(out, message, place);
  // Read whatever the role, so that a field of a wrong type is refused in every message.
  const std::string_view thought = optional_string(message, "reasoning", place);
  const std::string_view other = optional_string(message, "reasoning_content", place);
  const std::string_view call_id = optional_string(message, "tool_call_id", place);
  const std::string_view name = optional_string(message, "name", place);
  auto calls = read_calls(message, place);
  if (out.role == MessageRole::kAssistant) {
    out.thought = thought.empty() ? other : thought;
    out.calls = std::move(calls);
  } else if (out.role == MessageRole::kTool) {
    out.call_id = call_id;
    out.name = name;
  }
  return out;
}

}  // namespace

std::vector<ChatMessage> read_messages(const Value& messages) {
  if (!messages.is_array()) fail_kind("messages", &messages, "an array");
  std::vector<ChatMessage> out;
  out.reserve(messages.array().size());
  for (const Value& message : messages.array()) {
    const std::string place = fmt::format("messages[{}]", out.size());
    ChatMessage read = read_message(message, place);
    if (read.role == MessageRole::kTool) {
      const bool answers =
          !out.empty() && (out.back().role == MessageRole::kTool || !out.back().calls.empty());
      if (!answers) fail(place, "a tool message must follow an assistant message with tool_calls");
    }
    out.push_back(std::move(read));
  }
  return out;
}

}  // namespace facet
