#include "kernels/cpu/attention_tiles.h"

#include <algorithm>

namespace facet::cpu {
namespace {

/// A tile is fetched so many tiles before it is read.
constexpr int64_t kTilesAhead = 2;

}  // namespace

PositionRange seen_by(std::span<const AttendQuery> queries) {
  PositionRange all;
  for (const AttendQuery& query : queries) {
    if (query.begin >= query.end) continue;
    all.begin = std::min(all.begin, query.begin);
    all.end = std::max(all.end, query.end);
  }
  return all;
}

AttentionTiles::AttentionTiles(const AttendArgs& args, PositionRange all)
    : args_(args),
      all_(all),
      row_bytes_(int64_t{args.kv->layout.head_dim} * (bits_of(args.kv->layout.dtype) / 8)),
      first_(all.begin / kAttentionTile),
      count_((all.end + kAttentionTile - 1) / kAttentionTile - first_) {}

TileRows AttentionTiles::rows(int64_t t) const {
  if (t + kTilesAhead < 2 * count_) {
    const TileRows soon = find(t + kTilesAhead);
    for (const uint8_t* row : soon.at) {
      for (int64_t i = 0; i < row_bytes_; i += 64) __builtin_prefetch(row + i, 0, 2);
    }
  }
  return find(t);
}

TileRows AttentionTiles::find(int64_t t) const {
  const std::byte* base = t < count_ ? args_.kv->k : args_.kv->v;
  const int64_t first = position(t < count_ ? t : t - count_);
  const int64_t from = std::max(first, all_.begin);
  const int64_t to = std::min(first + kAttentionTile, all_.end);
  const int64_t page_size = args_.kv->layout.page_size;
  TileRows rows;
  const uint8_t* row = nullptr;
  int64_t left = 0;  // on the page
  for (int64_t position = from; position < to; ++position) {
    if (left == 0) {
      row = reinterpret_cast<const uint8_t*>(base) + offset_of(position);
      left = page_size - position % page_size;
    }
    rows.at[position - first] = row;
    row += row_bytes_;
    --left;
  }
  std::fill(rows.at, rows.at + (from - first), rows.at[from - first]);
  std::fill(rows.at + (to - first), rows.at + kAttentionTile, rows.at[to - first - 1]);
  return rows;
}

int64_t AttentionTiles::offset_of(int64_t position) const {
  const KvLayout& layout = args_.kv->layout;
  const int64_t page = to_index(args_.pages[static_cast<size_t>(position / layout.page_size)]);
  const int64_t slot = int64_t{args_.kv_head} * layout.page_size + position % layout.page_size;
  return (page * layout.kv_heads * layout.page_size + slot) * row_bytes_;
}

}  // namespace facet::cpu
