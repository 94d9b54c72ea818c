#include "tokenizer/merge_table.h"

#include <algorithm>
#include <array>
#include <bit>
#include <fmt/core.h>
#include <string>

#include "base/error.h"
#include "base/text.h"
#include "tokenizer/entry_table.h"

namespace facet {
namespace {

constexpr uint32_t kRankBits = 22;
constexpr uint64_t kEmptySlot = UINT64_MAX;
/// Merges whose look-ups wait for memory together.
constexpr size_t kGroup = 16;

uint64_t pair_key(TokenId left, TokenId right) {
  return static_cast<uint64_t>(to_index(left)) << 21 | static_cast<uint64_t>(to_index(right));
}

uint64_t pair_hash(uint64_t key) { return key * 0x9E3779B97F4A7C15; }

[[noreturn]] void fail(size_t rank, const std::string& why) {
  throw Error(ErrorCode::kBadCheckpoint, fmt::format("model.merges: merge {} {}", rank, why));
}

TokenId known(int32_t id, size_t rank, std::string_view role, std::string_view piece) {
  if (id == PieceIndex::kUnknown) {
    fail(rank, fmt::format("{} {}, which is not in the vocabulary", role, printable(piece, 80)));
  }
  return TokenId{id};
}

/// Finds what merges make. They are usually listed in the order of the ids they make, so the last
/// result and the one behind it are tried before the index.
class ResultFinder {
 public:
  ResultFinder(const EntryTable& entries, const PieceIndex& index)
      : entries_(&entries), index_(&index) {}

  TokenId find(std::string_view left, std::string_view right, size_t rank) {
    if (!is_result(last_, left, right) && !is_result(++last_, left, right)) {
      whole_.assign(left).append(right);
      last_ = to_index(known(index_->find(whole_), rank, "makes", whole_));
    }
    return TokenId{last_};
  }

 private:
  bool is_result(int32_t id, std::string_view left, std::string_view right) const {
    if (id < 0 || id >= entries_->size()) return false;
    const std::string_view piece = entries_->piece(id);
    return piece.size() == left.size() + right.size() && piece.starts_with(left) &&
           piece.ends_with(right);
  }

  const EntryTable* entries_;
  const PieceIndex* index_;
  int32_t last_ = -1;
  std::string whole_;
};

}  // namespace

MergeTable::MergeTable(const std::vector<std::pair<std::string_view, std::string_view>>& merges,
                       const EntryTable& entries,
                       const PieceIndex& index,
                       const std::vector<bool>& refused) {
  if (merges.size() > kMaxMerges) {
    throw Error(
        ErrorCode::kBadCheckpoint,
        fmt::format("model.merges holds {} merges, more than {}", merges.size(), kMaxMerges));
  }
  slots_.assign(std::bit_ceil(merges.size() * 2 + 2), kEmptySlot);
  shift_ = 64 - static_cast<uint32_t>(std::countr_zero(slots_.size()));
  results_.resize(merges.size());

  ResultFinder results(entries, index);
  std::array<std::pair<uint64_t, uint64_t>, kGroup> hashes{};
  std::array<std::pair<TokenId, TokenId>, kGroup> pairs{};
  for (size_t begin = 0; begin < merges.size(); begin += kGroup) {
    const size_t count = std::min(kGroup, merges.size() - begin);
    for (size_t i = 0; i < count; ++i) {
      const auto& [left, right] = merges[begin + i];
      hashes[i] = {PieceIndex::hash(left), PieceIndex::hash(right)};
      index.prefetch(hashes[i].first);
      index.prefetch(hashes[i].second);
    }
    for (size_t i = 0; i < count; ++i) {
      index.prefetch_piece(hashes[i].first);
      index.prefetch_piece(hashes[i].second);
    }
    for (size_t i = 0; i < count; ++i) {
      const size_t rank = begin + i;
      const auto& [left, right] = merges[rank];
      pairs[i] = {known(index.find(left, hashes[i].first), rank, "takes", left),
                  known(index.find(right, hashes[i].second), rank, "takes", right)};
      results_[rank] = results.find(left, right, rank);
      for (const TokenId id : {pairs[i].first, pairs[i].second, results_[rank]}) {
        if (!refused[static_cast<size_t>(to_index(id))]) continue;
        fail(rank, fmt::format("takes or makes id {}, a control or byte token", to_index(id)));
      }
      const uint64_t key = pair_key(pairs[i].first, pairs[i].second);
      __builtin_prefetch(&slots_[pair_hash(key) >> shift_], 1);
    }
    for (size_t i = 0; i < count; ++i) {
      insert(static_cast<int32_t>(begin + i), pairs[i].first, pairs[i].second);
    }
  }
}

void MergeTable::insert(int32_t rank, TokenId left, TokenId right) {
  const uint64_t key = pair_key(left, right);
  uint64_t at = pair_hash(key) >> shift_;
  while (slots_[at] != kEmptySlot) {
    if (slots_[at] >> kRankBits == key) {
      fail(static_cast<size_t>(rank),
           fmt::format("is merge {} again", slots_[at] & ((1U << kRankBits) - 1)));
    }
    at = (at + 1) & (slots_.size() - 1);
  }
  slots_[at] = key << kRankBits | static_cast<uint64_t>(rank);
}

int32_t MergeTable::rank(TokenId left, TokenId right) const {
  const uint64_t key = pair_key(left, right);
  for (uint64_t at = pair_hash(key) >> shift_;; at = (at + 1) & (slots_.size() - 1)) {
    const uint64_t slot = slots_[at];
    if (slot == kEmptySlot) return kNone;
    if (slot >> kRankBits == key) return static_cast<int32_t>(slot & ((1U << kRankBits) - 1));
  }
}

}  // namespace facet
