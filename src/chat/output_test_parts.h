#pragma once

#include <boost/json/parse.hpp>
#include <boost/json/value_to.hpp>
#include <cstdint>
#include <optional>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "chat/output_parser.h"
#include "chat/value.h"
#include "tests/support.h"
#include "tokenizer/control_tokens.h"

namespace facet::test {

/// Text, or a control token.
struct OutputPiece {
  std::string text;
  std::optional<TokenId> control;
};

/// Reads generated output in which control tokens are shown as their text.
inline std::vector<OutputPiece> output_pieces(std::string_view shown) {
  std::vector<OutputPiece> pieces;
  while (!shown.empty()) {
    const ControlToken* found = nullptr;
    for (const ControlToken& token : kControlTokens) {
      if (shown.substr(0, token.text.size()) == token.text) found = &token;
    }
    if (found != nullptr) {
      pieces.push_back({{}, found->id});
      shown.remove_prefix(found->text.size());
      continue;
    }
    if (pieces.empty() || pieces.back().control) pieces.push_back({});
    pieces.back().text += shown[0];
    shown.remove_prefix(1);
  }
  return pieces;
}

/// What a client that joins the pieces of a stream ends up with.
struct JoinedStream {
  std::string content;
  std::string reasoning;
  std::vector<OutputCall> calls;     // all that were started
  std::vector<OutputCall> complete;  // those that were ended
  bool in_order = true;              // each call: start, arguments, end, and then the next

  void add(const OutputEvent& event) {
    using Kind = OutputEvent::Kind;
    const auto open = static_cast<int32_t>(calls.size()) - 1;
    const bool closed = complete.size() == calls.size();
    switch (event.kind) {
      case Kind::kContent:
        content += event.text;
        break;
      case Kind::kThought:
        reasoning += event.text;
        break;
      case Kind::kCallStart:
        in_order = in_order && closed && event.call == open + 1;
        calls.push_back({event.text, {}});
        break;
      case Kind::kCallArguments:
        in_order = in_order && !closed && event.call == open;
        if (!calls.empty()) calls.back().arguments += event.text;
        break;
      case Kind::kCallEnd:
        in_order = in_order && !closed && event.call == open;
        if (!calls.empty()) complete.push_back(calls.back());
        break;
    }
  }
};

/// Is text between control tokens pushed at once, by the character or by the piece?
enum class Split { kJoined, kCharacters, kAsGiven };

inline JoinedStream parse_output(const std::vector<OutputPiece>& pieces,
                                 OutputParser& parser,
                                 FinishCause cause,
                                 Split split) {
  JoinedStream stream;
  OutputParser::Events events;
  std::string waiting;
  const auto push = [&](std::string_view text) {
    // A vector of its own for each push, as in a stream.
    events.clear();
    parser.push_text(text, events);
    for (const OutputEvent& event : events) stream.add(event);
  };
  for (const OutputPiece& piece : pieces) {
    waiting += piece.text;
    if (split == Split::kAsGiven) push(std::exchange(waiting, {}));
    if (split == Split::kCharacters) {
      std::string character;
      for (const char c : std::exchange(waiting, {})) {
        if ((static_cast<unsigned char>(c) & 0xC0) != 0x80) push(std::exchange(character, {}));
        character += c;
      }
      push(character);
    }
    if (!piece.control) continue;
    push(std::exchange(waiting, {}));
    events.clear();
    parser.push_control(*piece.control, events);
    for (const OutputEvent& event : events) stream.add(event);
  }
  push(waiting);
  events.clear();
  parser.finish(cause, events);
  for (const OutputEvent& event : events) stream.add(event);
  return stream;
}

/// Reads `pieces` in one go, by the character and as they are; `result` is the first one's. Empty
/// if all gave the same, events joined to the result and arguments are JSON objects that a request
/// may hold; else what is wrong.
inline std::string fault_of_output(const std::vector<OutputPiece>& pieces,
                                   const OutputOptions& options,
                                   FinishCause cause,
                                   OutputResult& result) {
  OutputParser whole(options);
  const JoinedStream want = parse_output(pieces, whole, cause, Split::kJoined);
  result = whole.result();
  for (const Split split : {Split::kJoined, Split::kCharacters, Split::kAsGiven}) {
    OutputParser other(options);
    const JoinedStream stream = parse_output(pieces, other, cause, split);
    if (!stream.in_order) return "a call's events are out of order";
    if (stream.content != result.content) return "content: " + stream.content;
    if (stream.reasoning != result.reasoning) return "reasoning: " + stream.reasoning;
    if (stream.complete != result.calls) return "calls that were ended";
    if (stream.calls != want.calls) return "calls that were started";
    if (other.result().finish_reason() != result.finish_reason()) return "finish reason";
    if (other.result().end_token != result.end_token) return "end token";
    if (other.result().stop_string != result.stop_string) return "stop string";
  }
  for (const OutputCall& call : result.calls) {
    // As they are read when the client sends them back.
    try {
      if (!parse_value(call.arguments).is_object()) return "no object: " + call.arguments;
    } catch (const Error& error) {
      return std::string(error.what()) + ": " + call.arguments;
    }
  }
  const bool cut = cause == FinishCause::kLength || cause == FinishCause::kAbort;
  if (!cut && want.calls != result.calls) return "a started call was not ended";
  return {};
}

/// One line of tests/data/output_vectors.jsonl.
struct OutputVector {
  std::string name;
  std::vector<OutputPiece> pieces;
  OutputOptions options;
  FinishCause cause = FinishCause::kEndToken;
  OutputResult want;
  std::string finish;
};

inline bool flag(const boost::json::object& line, std::string_view name) {
  const boost::json::value* value = line.if_contains(name);
  return value != nullptr && value->as_bool();
}

inline std::string text_of(const boost::json::object& line, std::string_view name) {
  const boost::json::value* value = line.if_contains(name);
  return value != nullptr ? boost::json::value_to<std::string>(*value) : std::string();
}

inline std::vector<OutputVector> recorded_vectors() {
  std::istringstream lines(read_text(data_path("output_vectors.jsonl")));
  std::vector<OutputVector> vectors;
  for (std::string text; std::getline(lines, text);) {
    const boost::json::object line = boost::json::parse(text).as_object();
    const boost::json::object& want = line.at("want").as_object();
    OutputVector vector;
    vector.name = text_of(line, "name");
    vector.pieces = output_pieces(text_of(line, "out"));
    vector.options.thinking = flag(line, "thinking");
    vector.options.open_thought = flag(line, "open");
    if (flag(line, "length")) vector.cause = FinishCause::kLength;
    if (text_of(line, "tools") == "W") {
      vector.options.tools = {
          {"get_weather", {{"city", {"string"}}, {"days", {"integer"}}, {"metric", {"boolean"}}}}};
    }
    vector.want.content = text_of(want, "content");
    vector.want.reasoning = text_of(want, "reasoning");
    if (const boost::json::value* calls = want.if_contains("calls")) {
      for (const boost::json::value& call : calls->as_array()) {
        vector.want.calls.push_back({boost::json::value_to<std::string>(call.at(0)),
                                     boost::json::value_to<std::string>(call.at(1))});
      }
    }
    vector.finish = text_of(want, "finish");
    vectors.push_back(std::move(vector));
  }
  return vectors;
}

}  // namespace facet::test
