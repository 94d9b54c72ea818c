#include "server/text_choice.h"

#include <algorithm>

#include "server/route.h"

namespace facet {
namespace {

int64_t code_points(std::string_view text) {
  return std::count_if(text.begin(), text.end(), [](char byte) {
    return (static_cast<unsigned char>(byte) & 0xC0U) != 0x80U;
  });
}

}  // namespace

TextChoice::TextChoice(const Tokenizer& tokenizer, const TextShape& shape)
    : shape_(shape), decoder_(tokenizer, shape.control), stops_(shape.stop, shape.stop_text) {}

std::string TextChoice::decoded(int32_t id) {
  std::string text = decoder_.push(TokenId{id});
  characters_ += code_points(text);
  return text;
}

void TextChoice::echo(const std::vector<int32_t>& ids,
                      size_t first,
                      const std::vector<std::optional<TokenLogprob>>& logprobs) {
  for (size_t i = first; i < ids.size(); ++i) {
    Token token{ids[i], characters_, std::nullopt};
    if (i < logprobs.size()) token.logprob = logprobs[i];
    tokens_.push_back(std::move(token));
    text_ += decoded(ids[i]);
  }
}

void TextChoice::forget() {
  text_.clear();
  tokens_.clear();
}

void TextChoice::take(const TokenEvent& event) {
  if (ended()) return;
  if (event.id >= 0) {
    ++generated_;
    tokens_.push_back({event.id, characters_, event.logprob});
    if (event.finish != FinishReason::kEndToken) text_ += stops_.push(decoded(event.id));
  }
  if (event.finish) {
    ending_ = ending_of(event, shape_.stop_ids);
    text_ += stops_.push(decoder_.flush());
    text_ += stops_.flush();
  }
  if (stops_.matched()) ending_ = stop_string_ending(*stops_.matched());
}

}  // namespace facet
