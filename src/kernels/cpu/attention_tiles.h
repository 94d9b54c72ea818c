#pragma once

#include <cstdint>
#include <limits>
#include <span>

#include "kernels/cpu/kernel_table.h"

namespace facet::cpu {

struct PositionRange {
  int64_t begin = std::numeric_limits<int64_t>::max();
  int64_t end = 0;
  bool operator==(const PositionRange&) const = default;
};

/// From the first to the last position that any of the queries sees; begin >= end if there is none.
PositionRange seen_by(std::span<const AttendQuery> queries);

/// Where K or V of the positions of a tile lies, stored or decoded.
struct TileRows {
  const uint8_t* at[kAttentionTile];
};

/// The tiles of positions that one call of `attend` reads: all keys, then all values. `args` must
/// outlive it.
class AttentionTiles {
 public:
  /// all: not empty.
  AttentionTiles(const AttendArgs& args, PositionRange all);

  int64_t count() const { return count_; }
  /// The position that tile t < count() begins with; the queries may see only later ones.
  int64_t position(int64_t t) const { return (first_ + t) * kAttentionTile; }

  /// Keys of tile t, or values of tile t - count(). Positions that no query sees have the row of
  /// one that is seen. Fetches a tile that is to be read soon.
  TileRows rows(int64_t t) const;

 private:
  TileRows find(int64_t t) const;
  /// Bytes from the begin of K or V to those of a position.
  int64_t offset_of(int64_t position) const;

  const AttendArgs& args_;
  PositionRange all_;
  int64_t row_bytes_;
  int64_t first_;
  int64_t count_;
};

}  // namespace facet::cpu
