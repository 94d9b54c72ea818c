#include "tokenizer/merge_table.h"

#include <algorithm>
#include <array>
#include <bit>
#include <fmt/core.h>
#include <span>
#include <string>
#include <thread>

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

/// Finds what merges make. They are usually listed in the order of the ids they make, so the last
/// result and the one behind it are tried before the index.
class ResultFinder {
 public:
  ResultFinder(const EntryTable& entries, const PieceIndex& index)
      : entries_(&entries), index_(&index) {}

  int32_t find(std::string_view left, std::string_view right) {
    for (const int32_t guess : {last_, last_ + 1}) {
      if (is_result(guess, left, right)) return last_ = guess;
    }
    whole_.assign(left).append(right);
    return last_ = index_->find(whole_);
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
  int32_t last_ = PieceIndex::kUnknown;
  std::string whole_;
};

/// A merge in ids; kUnknown for what is not in the vocabulary.
struct Resolved {
  int32_t left;
  int32_t right;
  int32_t result;
};

bool is_good(const Resolved& ids, const std::vector<bool>& refused) {
  for (const int32_t id : {ids.left, ids.right, ids.result}) {
    if (id == PieceIndex::kUnknown || refused[static_cast<size_t>(id)]) return false;
  }
  return true;
}

/// Puts the ids of merges into `out`. Returns the index of the first that may not be, or their
/// number.
size_t resolve(std::span<const TextMerge> merges,
               const EntryTable& entries,
               const PieceIndex& index,
               const std::vector<bool>& refused,
               std::span<Resolved> out) {
  size_t first_bad = merges.size();
  ResultFinder results(entries, index);
  std::array<std::pair<uint64_t, uint64_t>, kGroup> hashes{};
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
      const auto& [left, right] = merges[begin + i];
      out[begin + i] = {index.find(left, hashes[i].first), index.find(right, hashes[i].second),
                        results.find(left, right)};
      if (!is_good(out[begin + i], refused)) first_bad = std::min(first_bad, begin + i);
    }
  }
  return first_bad;
}

/// Says what is wrong with a merge that is not good.
[[noreturn]] void refuse(const TextMerge& merge,
                         const Resolved& ids,
                         size_t rank,
                         const std::vector<bool>& refused) {
  const auto refuse_unknown = [rank](std::string_view role, std::string_view piece) {
    fail(rank, fmt::format("{} {}, which is not in the vocabulary", role, printable(piece, 80)));
  };
  const auto& [left, right] = merge;
  if (ids.left == PieceIndex::kUnknown) refuse_unknown("takes", left);
  if (ids.right == PieceIndex::kUnknown) refuse_unknown("takes", right);
  if (ids.result == PieceIndex::kUnknown) refuse_unknown("makes", std::string(left).append(right));
  const std::array all = {ids.left, ids.right, ids.result};
  const auto* bad = std::find_if(all.begin(), all.end(),
                                 [&](int32_t id) { return refused[static_cast<size_t>(id)]; });
  fail(rank, fmt::format("takes or makes id {}, a control or byte token", *bad));
}

}  // namespace

MergeTable::MergeTable(std::span<const TextMerge> merges,
                       const EntryTable& entries,
                       const PieceIndex& index,
                       const std::vector<bool>& refused) {
  if (merges.size() > kMaxMerges) {
    throw Error(ErrorCode::kBadCheckpoint, fmt::format("model.merges holds {} merges, more than {}",
                                                       merges.size(), kMaxMerges));
  }
  // Half the merges are resolved beside the other half: this is what a start waits for.
  LargeVector<Resolved> ids(merges.size());
  const size_t middle = merges.size() / 2;
  size_t bad_in_first = 0;
  size_t bad_in_second = 0;
  {
    const std::jthread first_half([&] {
      bad_in_first =
          resolve(merges.first(middle), entries, index, refused, std::span(ids).first(middle));
    });
    slots_.assign(std::bit_ceil(merges.size() * 2 + 2), kEmptySlot);
    results_.resize(merges.size());
    bad_in_second =
        resolve(merges.subspan(middle), entries, index, refused, std::span(ids).subspan(middle));
  }
  const size_t bad = bad_in_first < middle ? bad_in_first : middle + bad_in_second;
  if (bad < merges.size()) refuse(merges[bad], ids[bad], bad, refused);
  shift_ = 64 - static_cast<uint32_t>(std::countr_zero(slots_.size()));
  for (size_t rank = 0; rank < merges.size(); ++rank) {
    if (rank + kGroup < merges.size()) {
      const Resolved& ahead = ids[rank + kGroup];
      const uint64_t key = pair_key(TokenId{ahead.left}, TokenId{ahead.right});
      __builtin_prefetch(&slots_[pair_hash(key) >> shift_], 1);
    }
    results_[rank] = TokenId{ids[rank].result};
    insert(static_cast<int32_t>(rank), TokenId{ids[rank].left}, TokenId{ids[rank].right});
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

void MergeTable::prefetch(TokenId left, TokenId right) const {
  __builtin_prefetch(&slots_[pair_hash(pair_key(left, right)) >> shift_]);
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
