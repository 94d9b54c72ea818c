#include "cli/remote_chat.h"

#include <boost/json/object.hpp>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <chrono>
#include <fmt/core.h>
#include <optional>
#include <utility>

#include "base/error.h"
#include "base/text.h"
#include "chat/value.h"
#include "server/http/sse_reader.h"

namespace facet::cli {
namespace {

namespace json = boost::json;
using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

const Value* member(const Value* from, const char* name) {
  return from != nullptr ? from->find(name) : nullptr;
}

std::string text_of(const Value* value) {
  return value != nullptr && value->is_string() ? value->string() : std::string();
}

int32_t count_of(const Value* value) {
  if (value == nullptr || value->kind() != Value::Kind::kNumber) return 0;
  return static_cast<int32_t>(value->number().as_int64().value_or(0));
}

std::optional<Value> parse_json(std::string_view text) {
  try {
    return parse_value(text);
  } catch (const Error&) {
    return std::nullopt;
  }
}

Value must_parse(const RemoteServer& server, std::string_view text) {
  std::optional<Value> value = parse_json(text);
  if (value) return std::move(*value);
  throw Error(ErrorCode::kIo, fmt::format("answered what is no JSON: {}", printable(text, 80)),
              server.url.authority());
}

[[noreturn]] void refuse(const RemoteServer& server, const Value* error, int status) {
  std::string message = text_of(member(error, "message"));
  if (message.empty()) message = fmt::format("answered with status {}", status);
  throw Error(ErrorCode::kBadInput, printable(message), server.url.authority());
}

[[noreturn]] void refuse(const RemoteServer& server, const http::ClientAnswer& answer) {
  const std::optional<Value> body = parse_json(answer.body);
  refuse(server, body ? body->find("error") : nullptr, answer.status);
}

http::ClientRequest request_to(const RemoteServer& server, const char* method, const char* path) {
  http::ClientRequest request{method, path, {}, {}};
  if (!server.key.empty()) request.headers.emplace_back("Authorization", "Bearer " + server.key);
  return request;
}

/// What the events of one stream add up to.
struct Stream {
  const RemoteServer& server;
  const Conversation::OnPiece& on_piece;
  Clock::time_point start = Clock::now();
  Answer answer;
  bool begun = false;
  Clock::time_point first;

  void take(std::string_view data) {
    if (data == "[DONE]") return;
    const Value event = must_parse(server, data);
    if (const Value* error = event.find_set("error")) refuse(server, error, 200);
    if (const Value* usage = event.find_set("usage")) take_usage(*usage);
    const Value* choices = event.find("choices");
    if (choices == nullptr || !choices->is_array() || choices->array().empty()) return;
    const Value& choice = choices->array().front();
    const Value* delta = choice.find("delta");
    std::string thought = text_of(member(delta, "reasoning_content"));
    if (thought.empty()) thought = text_of(member(delta, "reasoning"));
    add(OutputEvent::Kind::kThought, thought, answer.reasoning);
    add(OutputEvent::Kind::kContent, text_of(member(delta, "content")), answer.content);
    const std::string reason = text_of(choice.find("finish_reason"));
    if (!reason.empty()) answer.finish_reason = reason;
  }

  void add(OutputEvent::Kind kind, const std::string& text, std::string& whole) {
    if (text.empty()) return;
    if (!std::exchange(begun, true)) first = Clock::now();
    ++answer.times.generated_tokens;  // until usage says better
    whole += text;
    on_piece(kind, text);
  }

  void take_usage(const Value& usage) {
    answer.times.prompt_tokens = count_of(usage.find("prompt_tokens"));
    answer.times.generated_tokens = count_of(usage.find("completion_tokens"));
    answer.times.cached_tokens =
        count_of(member(usage.find("prompt_tokens_details"), "cached_tokens"));
  }
};

}  // namespace

std::string first_model(const RemoteServer& server) {
  const http::ClientAnswer answer =
      http::send(server.url, request_to(server, "GET", "/v1/models"), {}, {});
  if (answer.status != 200) refuse(server, answer);
  const Value body = must_parse(server, answer.body);
  const Value* list = body.find("data");
  if (list != nullptr && list->is_array() && !list->array().empty()) {
    std::string id = text_of(list->array().front().find("id"));
    if (!id.empty()) return id;
  }
  throw Error(ErrorCode::kIo, "names no model", server.url.authority());
}

RemoteChat::RemoteChat(RemoteServer server, const SamplingOptions& sampling, int32_t max_tokens)
    : Conversation(with_flags({}, sampling), max_tokens),
      server_(std::move(server)),
      given_(sampling) {}

std::string RemoteChat::request_body() const {
  json::object body = {{"model", server_.model},
                       {"messages", json::parse(messages_json(messages()))},
                       {"stream", true},
                       {"stream_options", {{"include_usage", true}}},
                       {"max_tokens", max_tokens()},
                       {"chat_template_kwargs", {{"enable_thinking", thinking()}}}};
  const SamplingParams& p = sampling();
  const auto add = [&](const char* name, bool given, json::value value) {
    if (given || was_set(name)) body[name] = std::move(value);
  };
  add("temperature", given_.temperature.has_value(), p.temperature);
  add("top_k", given_.top_k.has_value(), p.top_k);
  add("top_p", given_.top_p.has_value(), p.top_p);
  add("min_p", given_.min_p.has_value(), p.min_p);
  add("repetition_penalty", given_.repetition_penalty.has_value(), p.repetition_penalty);
  add("presence_penalty", given_.presence_penalty.has_value(), p.presence_penalty);
  add("frequency_penalty", given_.frequency_penalty.has_value(), p.frequency_penalty);
  add("seed", given_.seed.has_value(), static_cast<int64_t>(p.seed));
  return json::serialize(body);
}

Answer RemoteChat::answer_messages(const OnPiece& on_piece, const KeepGoing& keep_going) {
  http::ClientRequest request = request_to(server_, "POST", "/v1/chat/completions");
  request.headers.emplace_back("Content-Type", "application/json");
  request.body = request_body();
  Stream stream{server_, on_piece, Clock::now(), {}, false, {}};
  http::SseReader events([&](std::string_view data) { stream.take(data); });
  const http::ClientAnswer answer = http::send(
      server_.url, request, [&](std::string_view bytes) { events.push(bytes); }, keep_going);
  const bool given_up = answer.status == 0 || (keep_going && !keep_going());
  if (!given_up && answer.status != 200) refuse(server_, answer);
  if (!given_up && stream.answer.finish_reason.empty()) {
    throw Error(ErrorCode::kIo, "the answer broke off", server_.url.authority());
  }
  if (given_up) stream.answer.finish_reason = "abort";
  if (stream.begun) {
    stream.answer.times.decode_s = seconds_since(stream.first);
    stream.answer.times.prompt_s = seconds_since(stream.start) - stream.answer.times.decode_s;
  }
  return std::move(stream.answer);
}

}  // namespace facet::cli
