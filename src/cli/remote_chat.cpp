#include "cli/remote_chat.h"

#include <boost/json/object.hpp>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <boost/json/value_to.hpp>
#include <chrono>
#include <fmt/core.h>
#include <utility>

#include "base/error.h"
#include "base/text.h"
#include "server/http/sse_reader.h"

namespace facet::cli {
namespace {

namespace json = boost::json;
using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

SamplingParams params_of(const SamplingOptions& given) {
  SamplingParams params;
  params.temperature = given.temperature.value_or(params.temperature);
  params.top_k = given.top_k.value_or(params.top_k);
  params.top_p = given.top_p.value_or(params.top_p);
  params.min_p = given.min_p.value_or(params.min_p);
  params.repetition_penalty = given.repetition_penalty.value_or(params.repetition_penalty);
  params.presence_penalty = given.presence_penalty.value_or(params.presence_penalty);
  params.frequency_penalty = given.frequency_penalty.value_or(params.frequency_penalty);
  if (given.seed) params.seed = static_cast<uint64_t>(*given.seed);
  params.validate();
  return params;
}

const json::value* member(const json::value* from, const char* name) {
  const json::object* object = from != nullptr ? from->if_object() : nullptr;
  return object != nullptr ? object->if_contains(name) : nullptr;
}

std::string text_of(const json::value* value) {
  return value != nullptr && value->is_string() ? json::value_to<std::string>(*value)
                                                : std::string();
}

int32_t count_of(const json::value* value) {
  return value != nullptr && value->is_int64() ? static_cast<int32_t>(value->get_int64()) : 0;
}

json::value parse_json(const RemoteServer& server, std::string_view text) {
  json::error_code fault;
  json::value value = json::parse(text, fault);
  if (fault) {
    throw Error(ErrorCode::kIo,
                fmt::format("answered what is no JSON: {}", printable(std::string(text), 80)),
                server.url.authority());
  }
  return value;
}

[[noreturn]] void refuse(const RemoteServer& server, const json::value* error, int status) {
  std::string message = text_of(member(error, "message"));
  if (message.empty()) message = fmt::format("answered with status {}", status);
  throw Error(ErrorCode::kBadInput, printable(message), server.url.authority());
}

[[noreturn]] void refuse(const RemoteServer& server, const http::ClientAnswer& answer) {
  json::error_code fault;
  const json::value body = json::parse(answer.body, fault);
  refuse(server, fault ? nullptr : member(&body, "error"), answer.status);
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
    const json::value event = parse_json(server, data);
    if (const json::value* error = member(&event, "error")) refuse(server, error, 200);
    if (const json::value* usage = member(&event, "usage")) take_usage(*usage);
    const json::value* choices = member(&event, "choices");
    if (choices == nullptr || !choices->is_array() || choices->get_array().empty()) return;
    const json::value& choice = choices->get_array().front();
    const json::value* delta = member(&choice, "delta");
    std::string thought = text_of(member(delta, "reasoning_content"));
    if (thought.empty()) thought = text_of(member(delta, "reasoning"));
    add(OutputEvent::Kind::kThought, thought, answer.reasoning);
    add(OutputEvent::Kind::kContent, text_of(member(delta, "content")), answer.content);
    const std::string reason = text_of(member(&choice, "finish_reason"));
    if (!reason.empty()) answer.finish_reason = reason;
  }

  void add(OutputEvent::Kind kind, const std::string& text, std::string& whole) {
    if (text.empty()) return;
    if (!std::exchange(begun, true)) first = Clock::now();
    ++answer.times.generated_tokens;  // until usage says better
    whole += text;
    on_piece(kind, text);
  }

  void take_usage(const json::value& usage) {
    if (!usage.is_object()) return;
    answer.times.prompt_tokens = count_of(member(&usage, "prompt_tokens"));
    answer.times.generated_tokens = count_of(member(&usage, "completion_tokens"));
    answer.times.cached_tokens =
        count_of(member(member(&usage, "prompt_tokens_details"), "cached_tokens"));
  }
};

}  // namespace

std::string first_model(const RemoteServer& server) {
  const http::ClientAnswer answer =
      http::send(server.url, request_to(server, "GET", "/v1/models"), {}, {});
  if (answer.status != 200) refuse(server, answer);
  const json::value body = parse_json(server, answer.body);
  const json::value* list = member(&body, "data");
  if (list != nullptr && list->is_array() && !list->get_array().empty()) {
    std::string id = text_of(member(&list->get_array().front(), "id"));
    if (!id.empty()) return id;
  }
  throw Error(ErrorCode::kIo, "names no model", server.url.authority());
}

RemoteChat::RemoteChat(RemoteServer server, const SamplingOptions& sampling, int32_t max_tokens)
    : Conversation(params_of(sampling), max_tokens), server_(std::move(server)), given_(sampling) {}

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
