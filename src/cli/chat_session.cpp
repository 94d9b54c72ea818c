#include "cli/chat_session.h"

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>
#include <fmt/core.h>

#include "base/error.h"
#include "base/text.h"

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

}  // namespace

ChatSession::ChatSession(Session& session,
                         const Tokenizer& tokenizer,
                         RenderOptions render,
                         SamplingParams sampling,
                         int32_t max_tokens)
    : session_(session),
      tokenizer_(tokenizer),
      render_(render),
      sampling_(std::move(sampling)),
      max_tokens_(max_tokens) {}

void ChatSession::clear() { messages_.clear(); }

std::vector<int32_t> ChatSession::prompt() const {
  boost::json::array messages;
  if (!system_.empty()) messages.push_back(message_json("system", system_));
  for (const Message& message : messages_)
    messages.push_back(message_json(message.role, message.content));
  const Value value = parse_value(boost::json::serialize(messages));
  std::vector<int32_t> ids;
  for (const TokenId id : to_ids(render(value, nullptr, render_), tokenizer_))
    ids.push_back(to_index(id));
  return ids;
}

Answer ChatSession::ask(const std::string& text,
                        const OnPiece& on_piece,
                        const KeepGoing& keep_going) {
  messages_.push_back({"user", text});
  try {
    GenerationParams params;
    params.sampling = sampling_;
    params.max_tokens = max_tokens_;
    params.end_ids = end_ids(session_.checkpoint(), session_.config().eos_token_id);
    params.never_ids = never_ids(session_.checkpoint());
    params.keep_going = keep_going;
    OutputOptions output;
    output.thinking = render_.enable_thinking;
    OutputReader reader(tokenizer_, std::move(output));
    OutputParser::Events events;
    const auto show = [&] {
      for (const OutputEvent& event : events) on_piece(event.kind, event.text);
      events.clear();
    };
    Generation generation(session_.stepper(), session_.max_rows(), session_.max_positions());
    const GenerationResult result = generation.run(prompt(), params, [&](int32_t id) {
      reader.push(TokenId{id}, events);
      show();
      return !reader.ended();
    });
    reader.finish(
        result.cause == GenerationEnd::kLength ? FinishCause::kLength : FinishCause::kEndToken,
        events);
    show();
    messages_.push_back({"assistant", reader.result().content});
    return {reader.result().content, reader.result().reasoning,
            std::string(reader.result().finish_reason()), result.times};
  } catch (...) {
    messages_.pop_back();
    throw;
  }
}

std::string ChatSession::to_json() const {
  boost::json::array messages;
  for (const Message& message : messages_)
    messages.push_back(message_json(message.role, message.content));
  return boost::json::serialize(
      boost::json::object{{"system", system_}, {"messages", std::move(messages)}});
}

void ChatSession::from_json(const std::string& text) {
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
