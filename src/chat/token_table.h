#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "base/ids.h"
#include "tokenizer/tokenizer.h"

namespace facet {

/// A set of token ids, one bit each.
class TokenSet {
 public:
  explicit TokenSet(int32_t vocab_size) : words_((static_cast<size_t>(vocab_size) + 63) / 64, 0) {}

  void add(TokenId id) { words_[word(id)] |= uint64_t{1} << (to_index(id) % 64); }
  void remove(TokenId id) { words_[word(id)] &= ~(uint64_t{1} << (to_index(id) % 64)); }
  bool contains(TokenId id) const { return (words_[word(id)] >> (to_index(id) % 64) & 1) != 0; }
  std::span<const uint64_t> words() const { return words_; }

 private:
  static size_t word(TokenId id) { return static_cast<size_t>(to_index(id)) / 64; }

  std::vector<uint64_t> words_;
};

/// A vocabulary as constrained sampling looks at it. Constant; any number of threads may use one.
/// The tokenizer must outlive it and must not be moved.
class TokenTable {
 public:
  explicit TokenTable(const Tokenizer& tokenizer);

  std::string_view bytes_of(TokenId id) const { return tokenizer_->bytes_of(id); }
  int32_t size() const { return tokenizer_->size(); }
  /// Ordinary tokens that begin with this byte.
  std::span<const TokenId> beginning_with(char byte) const;
  /// Ordinary tokens of key bytes alone, and others that hold key bytes and then a ':'.
  const TokenSet& keys() const { return keys_; }
  std::span<const TokenId> key_ends() const { return key_ends_; }
  /// All ordinary tokens.
  const TokenSet& text() const { return text_; }
  /// The token that is a line feed.
  TokenId line_feed() const { return line_feed_; }

 private:
  const Tokenizer* tokenizer_;   // owned by the caller
  std::vector<TokenId> sorted_;  // by first byte
  std::array<size_t, 257> begin_{};
  TokenSet keys_;
  TokenSet text_;
  std::vector<TokenId> key_ends_;
  TokenId line_feed_;
};

}  // namespace facet
