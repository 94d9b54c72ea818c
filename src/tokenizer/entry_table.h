#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/large_vector.h"

namespace facet {

/// The entries of the vocabulary by id: how the file spells them and what they decode to.
class EntryTable {
 public:
  /// `pieces[id]` is the spelling. Entries named `<0xNN>` decode to that byte, U+2581 to a space.
  explicit EntryTable(std::span<const std::string_view> pieces);

  int32_t size() const { return static_cast<int32_t>(piece_ends_.size()) - 1; }
  /// Piece 0; the others follow it.
  const char* pool() const { return pieces_.data(); }
  std::string_view piece(int32_t id) const { return slice(pieces_, piece_ends_, id); }
  std::string_view bytes(int32_t id) const { return slice(bytes_, byte_ends_, id); }

 private:
  static std::string_view slice(const std::string& pool,
                                const std::vector<uint32_t>& ends,
                                int32_t id) {
    const auto i = static_cast<size_t>(id);
    return {pool.data() + ends[i], ends[i + 1] - ends[i]};
  }

  // Entry i lies at [ends[i], ends[i + 1]) of its pool.
  std::string pieces_;
  std::string bytes_;
  std::vector<uint32_t> piece_ends_;
  std::vector<uint32_t> byte_ends_;
};

/// Finds the id of a spelling. `entries` must outlive it.
class PieceIndex {
 public:
  /// Throws Error{kBadCheckpoint} if two entries are spelt the same.
  explicit PieceIndex(const EntryTable& entries);

  static constexpr int32_t kUnknown = -1;
  static uint64_t hash(std::string_view piece);
  /// Asks for the memory that find() will read.
  void prefetch(uint64_t hash) const { __builtin_prefetch(&slots_[hash & mask_]); }
  /// The same for its second step; the first place may already have been fetched.
  void prefetch_piece(uint64_t hash) const {
    __builtin_prefetch(pool_ + slots_[hash & mask_].offset);
  }
  int32_t find(std::string_view piece, uint64_t hash) const;
  int32_t find(std::string_view piece) const { return find(piece, hash(piece)); }

 private:
  struct Slot {
    uint32_t tag = 0;  // high half of the hash
    int32_t id = kUnknown;
    uint32_t offset = 0;  // of the piece in pool_
    uint32_t length = 0;
  };

  void insert(int32_t id, std::string_view piece, uint64_t hash);
  bool holds(const Slot& slot, std::string_view piece, uint64_t hash) const;

  const char* pool_;
  LargeVector<Slot> slots_;  // linear probing; kUnknown ends a search
  uint64_t mask_;
};

/// The byte that an entry spelt `<0xNN>` stands for, or -1.
int32_t byte_of_piece(std::string_view piece);

}  // namespace facet
