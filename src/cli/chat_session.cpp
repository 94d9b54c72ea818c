#include "cli/chat_session.h"

#include <algorithm>
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
      max_tokens_(max_tokens),
      generation_(session.stepper(), session.max_rows(), session.max_positions()) {}

void ChatSession::clear() { messages_.clear(); }

std::vector<int32_t> ChatSession::ids_of(const std::vector<Message>& messages,
                                         const RenderOptions& options) const {
  boost::json::array list;
  if (!system_.empty()) list.push_back(message_json("system", system_));
  for (const Message& message : messages)
    list.push_back(message_json(message.role, message.content));
  const Value value = parse_value(boost::json::serialize(list));
  std::vector<int32_t> ids;
  for (const TokenId id : to_ids(render(value, nullptr, options), tokenizer_))
    ids.push_back(to_index(id));
  return ids;
}

int32_t ChatSession::lasting_ids(const std::vector<int32_t>& prompt) const {
  // History shows a turn without the thought that the prompt for it ends in (server-api 13.9).
  std::vector<Message> answered = messages_;
  answered.push_back({"assistant", ""});
  RenderOptions options = render_;
  options.add_generation_prompt = false;
  const std::vector<int32_t> next = ids_of(answered, options);
  const auto parted = std::mismatch(prompt.begin(), prompt.end(), next.begin(), next.end()).first;
  return static_cast<int32_t>(parted - prompt.begin());
}

Answer ChatSession::ask(const std::string& text,
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

Answer ChatSession::answer_messages(const OnPiece& on_piece, const KeepGoing& keep_going) {
  const std::vector<int32_t> prompt = ids_of(messages_, render_);
  GenerationParams params;
  params.sampling = sampling_;
  params.max_tokens = max_tokens_;
  params.end_ids = end_ids(session_.checkpoint(), session_.config().eos_token_id);
  params.never_ids = never_ids(session_.checkpoint());
  params.lasting_ids = lasting_ids(prompt);
  params.keep_going = keep_going;
  OutputOptions output;
  output.thinking = render_.enable_thinking;
  OutputReader reader(tokenizer_, std::move(output));
  OutputParser::Events events;
  const auto show = [&] {
    for (const OutputEvent& event : events) on_piece(event.kind, event.text);
    events.clear();
  };
  const GenerationResult result = generation_.run(prompt, params, [&](int32_t id) {
    reader.push(TokenId{id}, events);
    show();
    return !reader.ended();
  });
  FinishCause cause = FinishCause::kEndToken;
  if (result.cause == GenerationEnd::kLength) cause = FinishCause::kLength;
  if (result.cause == GenerationEnd::kStopped && !reader.ended()) cause = FinishCause::kAbort;
  reader.finish(cause, events);
  show();
  return {reader.result().content, reader.result().reasoning,
          std::string(reader.result().finish_reason()), result.times};
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
