#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "chat/output_reader.h"
#include "chat/stop_strings.h"
#include "engine/request.h"
#include "server/answer.h"
#include "server/token_text.h"

namespace facet {

/// What chat answers look like, as the request wants it.
struct ChatShape {
  OutputOptions output;
  std::vector<int32_t> stop_ids;     ///< that the request named
  bool raw = false;                  ///< no parsing: control tokens as text in the content
  bool keep_thoughts = true;         ///< include_reasoning
  bool thoughts_in_content = false;  ///< separate_reasoning false: between <think> and </think>
  bool whole_calls = false;          ///< arguments in one piece
  bool one_call = false;             ///< parallel_tool_calls false
  bool named_call = false;           ///< a function was named: ends with tool_calls
};

/// A piece of an answer as clients see it.
struct ChatDelta {
  enum class Kind { kContent, kThought, kCallStart, kCallArguments };
  Kind kind;
  std::string text;
  int32_t call = -1;
};

/// One choice of a chat: tokens in, pieces out.
class ChatChoice {
 public:
  ChatChoice(const Tokenizer& tokenizer, const ChatShape& shape);

  /// Takes what a step brought. `deltas` and `listed` (tokens of which a byte reached the content
  /// with that) are appended to.
  void take(const TokenEvent& event,
            std::vector<ChatDelta>& deltas,
            std::vector<ListedToken>& listed);

  bool ended() const { return ending_.has_value(); }
  const Ending& ending() const { return *ending_; }
  /// The finished calls.
  const std::vector<OutputCall>& calls() const { return reader_.result().calls; }
  int32_t tokens() const { return tokens_; }
  int32_t reasoning_tokens() const { return reasoning_tokens_; }

 private:
  struct Entered {  // a token in the content channel
    ListedToken token;
    size_t bytes;  // of it that are neither written nor dropped
    bool listed;
  };

  void push(const TokenEvent& event);
  void push_raw(const TokenEvent& event);
  void finish(const TokenEvent& event);
  void end_from_reader(const TokenEvent& event);
  void follow(const TokenEvent& event, size_t written_before, size_t held_before);
  void emit(std::vector<ChatDelta>& deltas);
  size_t written() const;
  size_t held() const;

  const Tokenizer& tokenizer_;
  const ChatShape& shape_;  // owned by the answer
  OutputReader reader_;
  OutputParser::Events events_;  // of the token being taken
  std::optional<Ending> ending_;
  int32_t tokens_ = 0;
  int32_t reasoning_tokens_ = 0;

  // raw
  IncrementalDecoder raw_decoder_;
  StopStrings raw_stops_;
  size_t raw_written_ = 0;

  std::vector<Entered> entered_;  // few: those whose bytes are held back
  std::vector<ListedToken> listed_;
  bool in_think_tags_ = false;
  std::string held_arguments_;  // of the call being read, with whole_calls
};

}  // namespace facet
