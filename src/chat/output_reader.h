#pragma once

#include "base/ids.h"
#include "chat/output_parser.h"
#include "tokenizer/tokenizer.h"

namespace facet {

/// OutputParser fed with token ids. A control token and the end complete a character: bytes held
/// back become U+FFFD in the channel they belong to. The tokenizer must outlive it and must not be
/// moved.
class OutputReader {
 public:
  OutputReader(const Tokenizer& tokenizer, OutputOptions options);

  void push(TokenId id, OutputParser::Events& events);
  void finish(FinishCause cause, OutputParser::Events& events);

  bool ended() const { return parser_.ended(); }
  const OutputResult& result() const { return parser_.result(); }
  size_t content_bytes() const { return parser_.content_bytes(); }
  bool in_thought() const { return parser_.in_thought(); }
  /// As OutputParser's; the bytes of an unfinished character count too.
  size_t held_content() const { return decoder_.held() + parser_.held_content(); }

 private:
  const Tokenizer* tokenizer_;
  IncrementalDecoder decoder_;
  OutputParser parser_;
};

}  // namespace facet
