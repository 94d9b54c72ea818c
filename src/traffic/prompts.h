#pragma once

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "tokenizer/tokenizer.h"

namespace facet {

/// Makes random prompts of exact length in tokens. Equal seeds make equal prompts; two prompts
/// share no more of their beginning than `<bos>` and the wanted prefix (but by chance).
class PromptMaker {
 public:
  /// `shared_prefix`: tokens that all prompts begin with. Throws Error{kBadCheckpoint} if the
  /// vocabulary has too few words. The tokenizer must outlive it.
  PromptMaker(const Tokenizer& tokenizer, uint64_t seed, int32_t shared_prefix);

  /// `<bos>` and length - 1 ordinary tokens: no control, byte or unused ones. length >= 1.
  std::vector<int32_t> ids(int32_t length);
  /// English-looking words that encode to `length` tokens without `<bos>`. length >= 1.
  std::string text(int32_t length);

 private:
  int32_t any_of(const std::vector<int32_t>& ids, std::mt19937_64& random) const;

  const Tokenizer& tokenizer_;
  const uint64_t prefix_seed_;
  const int32_t shared_prefix_;
  std::vector<int32_t> ordinary_;
  std::vector<int32_t> words_;        // a space, then letters; encoded they are one token each
  std::vector<int32_t> first_words_;  // of these, one token without the space too
  std::mt19937_64 random_;
};

}  // namespace facet
