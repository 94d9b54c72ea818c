#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "base/ids.h"
#include "base/large_vector.h"

namespace facet {

/// Two spellings that merge.
using TextMerge = std::pair<std::string_view, std::string_view>;

class EntryTable;
class PieceIndex;

/// Which neighbours merge, how early, and into what.
class MergeTable {
 public:
  static constexpr int32_t kNone = INT32_MAX;
  static constexpr int32_t kMaxEntries = 1 << 21;
  static constexpr int32_t kMaxMerges = 1 << 22;

  /// Rank of a merge is its index in `merges`. Throws Error{kBadCheckpoint} for halves or results
  /// that are not in the vocabulary, for a merge that is listed twice, and for one that takes or
  /// makes an entry for which `refused[id]` holds.
  MergeTable(std::span<const TextMerge> merges,
             const EntryTable& entries,
             const PieceIndex& index,
             const std::vector<bool>& refused);

  int32_t size() const { return static_cast<int32_t>(results_.size()); }
  /// The rank of the merge of these neighbours; lower goes first; kNone if they do not merge.
  int32_t rank(TokenId left, TokenId right) const;
  /// Asks for the memory that rank() will read.
  void prefetch(TokenId left, TokenId right) const;
  TokenId result(int32_t rank) const { return results_[static_cast<size_t>(rank)]; }

 private:
  void insert(int32_t rank, TokenId left, TokenId right);

  LargeVector<TokenId> results_;  // by rank
  LargeVector<uint64_t> slots_;   // left 21 bits, right 21 bits, rank 22 bits; linear probing
  uint32_t shift_;                // the hash's top bits choose the slot
};

}  // namespace facet
