#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "base/ids.h"
#include "base/large_vector.h"

namespace facet {

/// The tokens of words met before: a table of fixed size in which a word has one place, and the
/// latest word at a place stays.
class PieceCache {
 public:
  PieceCache() : slots_(kSlots) {}

  static constexpr size_t kMaxBytes = 31;
  static constexpr size_t kMaxTokens = 7;

  /// A word on its way through the table.
  class Query {
   public:
    std::string_view word() const { return word_; }

   private:
    friend class PieceCache;
    std::string_view word_;
    // The bytes, zeros, and the size in the last byte: equal keys are equal words.
    std::array<uint64_t, 4> key_;
    size_t place_;  // kNowhere for a word too long to keep
  };

  /// Starts to look for `word` and asks for the memory that append() will read. The word must
  /// outlive the query.
  Query query(std::string_view word) const;
  /// Appends the tokens of the word and returns true, or returns false if it is not here.
  bool append(const Query& query, std::vector<TokenId>& out) const;
  /// Words and token lists over the limits are not kept.
  void keep(const Query& query, std::span<const TokenId> tokens);

 private:
  static constexpr size_t kSlots = size_t{1} << 16;
  static constexpr size_t kNowhere = SIZE_MAX;
  struct alignas(64) Slot {
    std::array<uint64_t, 4> key{};
    std::array<TokenId, kMaxTokens> tokens{};
    int32_t count = 0;  // 0: empty, for no word encodes to nothing
  };

  LargeVector<Slot> slots_;
};

}  // namespace facet
