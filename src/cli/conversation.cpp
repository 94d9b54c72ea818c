#include "cli/conversation.h"

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>
#include <charconv>
#include <fmt/core.h>
#include <utility>

#include "base/error.h"
#include "base/text.h"
#include "chat/value.h"

namespace facet::cli {
namespace {

boost::json::object message_json(std::string_view role, std::string_view content) {
  return {{"role", role}, {"content", content}};
}

std::string required_string(const Value& object, const char* name) {
  const Value* value = object.find(name);
  if (value == nullptr || !value->is_string()) {
    throw Error(ErrorCode::kBadInput,
                fmt::format("wanted a string under '{}' in each message", name));
  }
  return value->string();
}

template <typename Number>
Number parse_number(std::string_view text) {
  Number value{};
  const auto [end, fault] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (fault != std::errc() || end != text.data() + text.size()) {
    throw Error(ErrorCode::kUsage, fmt::format("'{}' is no number", printable(text, 40)));
  }
  return value;
}

}  // namespace

Conversation::Conversation(SamplingParams sampling, int32_t max_tokens)
    : sampling_(std::move(sampling)), max_tokens_(max_tokens) {}

Answer Conversation::ask(const std::string& text,
                         const OnPiece& on_piece,
                         const KeepGoing& keep_going) {
  messages_.push_back({"user", text});
  try {
    Answer answer = answer_messages(on_piece, keep_going);
    if (answer.times.generated_tokens > 0) {
      messages_.push_back({"assistant", answer.content});
    } else {
      messages_.pop_back();
    }
    return answer;
  } catch (...) {
    messages_.pop_back();
    throw;
  }
}

void Conversation::set(std::string_view name, std::string_view value) {
  SamplingParams params = sampling_;
  if (name == "temperature") {
    params.temperature = parse_number<float>(value);
  } else if (name == "top_k") {
    params.top_k = parse_number<int32_t>(value);
  } else if (name == "top_p") {
    params.top_p = parse_number<float>(value);
  } else if (name == "min_p") {
    params.min_p = parse_number<float>(value);
  } else if (name == "repetition_penalty") {
    params.repetition_penalty = parse_number<float>(value);
  } else if (name == "presence_penalty") {
    params.presence_penalty = parse_number<float>(value);
  } else if (name == "frequency_penalty") {
    params.frequency_penalty = parse_number<float>(value);
  } else if (name == "seed") {
    params.seed = static_cast<uint64_t>(parse_number<int64_t>(value));
  } else if (name == "max_tokens") {
    const auto tokens = parse_number<int32_t>(value);
    if (tokens < 1)
      throw Error(ErrorCode::kUsage, fmt::format("max_tokens: found {}, wanted 1 or more", tokens));
    max_tokens_ = tokens;
  } else {
    throw Error(ErrorCode::kUsage, fmt::format("no setting '{}'", printable(name, 40)));
  }
  params.validate();
  sampling_ = params;
  set_.emplace(name);
}

std::string Conversation::messages_json(const std::vector<Message>& messages) const {
  boost::json::array list;
  if (!system_.empty()) list.push_back(message_json("system", system_));
  for (const Message& message : messages)
    list.push_back(message_json(message.role, message.content));
  return boost::json::serialize(list);
}

std::string Conversation::to_json() const {
  boost::json::array messages;
  for (const Message& message : messages_)
    messages.push_back(message_json(message.role, message.content));
  return boost::json::serialize(
      boost::json::object{{"system", system_}, {"messages", std::move(messages)}});
}

void Conversation::from_json(const std::string& text) {
  const Value root = parse_value(text);
  const Value* list = root.find("messages");
  if (list == nullptr || !list->is_array()) {
    throw Error(ErrorCode::kBadInput, "wanted an object with a list under 'messages'");
  }
  std::vector<Message> messages;
  for (const Value& entry : list->array()) {
    const std::string role = required_string(entry, "role");
    if (role != "user" && role != "assistant") {
      throw Error(ErrorCode::kBadInput,
                  fmt::format("role '{}', wanted user or assistant", printable(role, 40)));
    }
    messages.push_back({role, required_string(entry, "content")});
  }
  const Value* system = root.find_set("system");
  system_ = system != nullptr && system->is_string() ? system->string() : "";
  messages_ = std::move(messages);
}

}  // namespace facet::cli
