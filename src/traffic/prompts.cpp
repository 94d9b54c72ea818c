#include "traffic/prompts.h"

#include <algorithm>
#include <fmt/core.h>
#include <string_view>

#include "base/error.h"
#include "base/ids.h"
#include "base/text.h"
#include "tokenizer/control_tokens.h"

namespace facet {
namespace {

constexpr size_t kFewestWords = 16;

bool is_text(std::string_view bytes) {
  if (bytes.empty()) return false;
  while (!bytes.empty()) {
    const size_t length = utf8_length(bytes);
    if (length == 0 || static_cast<unsigned char>(bytes.front()) < 0x20) return false;
    bytes.remove_prefix(length);
  }
  return true;
}

/// `<0x41>`, `<unused12>` and their like.
bool is_marked(std::string_view piece) {
  return piece.size() > 2 && piece.front() == '<' && piece.back() == '>';
}

bool is_word(std::string_view bytes) {
  return bytes.size() > 2 && bytes.front() == ' ' &&
         std::all_of(bytes.begin() + 1, bytes.end(), [](char c) { return c >= 'a' && c <= 'z'; });
}

}  // namespace

PromptMaker::PromptMaker(const Tokenizer& tokenizer, uint64_t seed, int32_t shared_prefix)
    : tokenizer_(tokenizer), prefix_seed_(~seed), shared_prefix_(shared_prefix), random_(seed) {
  Encoder encoder(tokenizer);
  std::vector<TokenId> encoded;
  const auto is_one = [&](std::string_view text) {
    encoded.clear();
    encoder.encode(text, ControlTokens::kIgnore, encoded);
    return encoded.size() == 1;
  };
  for (int32_t id = 0; id < tokenizer.size(); ++id) {
    const std::string_view bytes = tokenizer.bytes_of(TokenId{id});
    if (!is_text(bytes) || is_marked(tokenizer.piece(TokenId{id}))) continue;
    ordinary_.push_back(id);
    if (!is_word(bytes) || !is_one(bytes)) continue;
    words_.push_back(id);
    if (is_one(bytes.substr(1))) first_words_.push_back(id);
  }
  if (first_words_.size() < kFewestWords) {
    throw Error(ErrorCode::kBadCheckpoint,
                fmt::format("has {} words for random prompts, wanted at least {}",
                            first_words_.size(), kFewestWords),
                "tokenizer.json");
  }
}

int32_t PromptMaker::any_of(const std::vector<int32_t>& ids, std::mt19937_64& random) const {
  return ids[random() % ids.size()];
}

std::vector<int32_t> PromptMaker::ids(int32_t length) {
  std::vector<int32_t> ids = {to_index(control::kBos)};
  std::mt19937_64 prefix(prefix_seed_);
  while (std::ssize(ids) < length) {
    const bool shared = std::ssize(ids) < shared_prefix_;
    ids.push_back(any_of(ordinary_, shared ? prefix : random_));
  }
  return ids;
}

std::string PromptMaker::text(int32_t length) {
  std::mt19937_64 prefix(prefix_seed_);
  std::string text;
  for (int32_t i = 0; i < length; ++i) {
    std::mt19937_64& random = i < shared_prefix_ ? prefix : random_;
    const int32_t id = any_of(i == 0 ? first_words_ : words_, random);
    text += tokenizer_.bytes_of(TokenId{id}).substr(i == 0 ? 1 : 0);
  }
  return text;
}

}  // namespace facet
