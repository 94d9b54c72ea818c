#include "chat/output_reader.h"

#include <utility>

namespace facet {

OutputReader::OutputReader(const Tokenizer& tokenizer, OutputOptions options)
    : tokenizer_(&tokenizer), decoder_(tokenizer), parser_(std::move(options)) {}

void OutputReader::push(TokenId id, OutputParser::Events& events) {
  parser_.push_text(decoder_.push(id), events);
  if (tokenizer_->is_control(id)) parser_.push_control(id, events);
}

void OutputReader::finish(FinishCause cause, OutputParser::Events& events) {
  parser_.push_text(decoder_.flush(), events);
  parser_.finish(cause, events);
}

}  // namespace facet
