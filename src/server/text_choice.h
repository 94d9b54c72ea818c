#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "chat/stop_strings.h"
#include "engine/request.h"
#include "server/answer.h"
#include "tokenizer/tokenizer.h"

namespace facet {

/// What answers of raw text look like.
struct TextShape {
  ControlText control = ControlText::kDrop;
  std::vector<std::string> stop;
  StopText stop_text = StopText::kCut;
  std::vector<int32_t> stop_ids;  ///< that the request named
};

/// One choice of raw text, without any parsing: tokens in, text out.
class TextChoice {
 public:
  /// A token, and where its text begins.
  struct Token {
    int32_t id = 0;
    int64_t offset = 0;  ///< code points of the text before it, held ones included
    std::optional<TokenLogprob> logprob;
  };

  TextChoice(const Tokenizer& tokenizer, const TextShape& shape);

  /// Text of the prompt that the answer repeats; never looked at for stop strings.
  void echo(const std::vector<int32_t>& ids,
            size_t first,
            const std::vector<std::optional<TokenLogprob>>& logprobs);
  /// Takes what a step brought; text() and tokens() grow.
  void take(const TokenEvent& event);

  bool ended() const { return ending_.has_value(); }
  const Ending& ending() const { return *ending_; }
  /// Drops what text() and tokens() hold: it was sent.
  void forget();
  const std::string& text() const { return text_; }
  /// Those of the prompt first, if they were echoed; since forget().
  const std::vector<Token>& tokens() const { return tokens_; }
  int32_t generated() const { return generated_; }

 private:
  std::string decoded(int32_t id);

  const TextShape& shape_;  // owned by the answer
  IncrementalDecoder decoder_;
  StopStrings stops_;
  std::string text_;
  int64_t characters_ = 0;  // decoded so far
  std::vector<Token> tokens_;
  int32_t generated_ = 0;
  std::optional<Ending> ending_;
};

}  // namespace facet
