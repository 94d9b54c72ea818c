#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "base/ids.h"

namespace facet {

/// The tokens of words met before: a table of fixed size in which a word has one place, and the
/// latest word at a place stays.
class PieceCache {
 public:
  PieceCache() : slots_(kSlots) {}

  static constexpr size_t kMaxBytes = 31;
  static constexpr size_t kMaxTokens = 7;

  /// Appends the tokens of `word` and returns true, or returns false if it is not here.
  bool append(std::string_view word, std::vector<TokenId>& out) const;
  /// Words and token lists over the limits are not kept.
  void keep(std::string_view word, std::span<const TokenId> tokens);

 private:
  static constexpr size_t kSlots = size_t{1} << 17;
  /// The bytes, zeros, and the size in the last byte: equal keys are equal words.
  using Key = std::array<uint64_t, 4>;
  struct alignas(64) Slot {
    Key key{};
    std::array<TokenId, kMaxTokens> tokens{};
    int32_t count = 0;  // 0: empty, for no word encodes to nothing
  };

  static Key key_of(std::string_view word);
  static size_t place_of(const Key& key);

  std::vector<Slot> slots_;
};

}  // namespace facet
