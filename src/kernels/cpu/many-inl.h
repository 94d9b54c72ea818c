// Products with more rows of x than one tile takes, weights decoded in registers, for the
// instruction set being compiled. Re-included for each (see foreach_target.h). linear.cpp says how
// a sum is made.

#include <algorithm>
#include <cstdint>
#include <limits>
#include <span>
#include <type_traits>

#include "kernels/cpu/kernel_table.h"

#if defined(FACET_CPU_MANY_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef FACET_CPU_MANY_INL_H
#undef FACET_CPU_MANY_INL_H
#else
#define FACET_CPU_MANY_INL_H
#endif

#include "kernels/cpu/nibbles-inl.h"
#include "kernels/cpu/tile-inl.h"

HWY_BEFORE_NAMESPACE();
namespace facet::cpu::HWY_NAMESPACE {
namespace {

/// Weight rows and tokens of a tile, and up to how many tokens there are tiles rather than a panel.
template <class Format>
struct ManyTile {
  static constexpr int kRows = Format::direct_rows(4);
  static constexpr int kTokens = 4;
  static constexpr size_t kMostTokens = 12;
};

#if HWY_TARGET == HWY_AVX3
// With 32 registers tiles are large enough to hide the decoding of most formats: it runs beside the
// multiply-adds, where a panel has to be stored first, which does not.
template <int Rows, int Tokens>
struct LargeTile {
  static constexpr int kRows = Rows;
  static constexpr int kTokens = Tokens;
  static constexpr size_t kMostTokens = std::numeric_limits<size_t>::max();
};
template <>
struct ManyTile<F32Format> : LargeTile<4, 6> {};
template <>
struct ManyTile<BF16Format> : LargeTile<4, 6> {};
template <>
struct ManyTile<F16Format> : LargeTile<4, 6> {};
template <>
struct ManyTile<Int8Format> : LargeTile<2, 5> {};
template <>
struct ManyTile<Nvfp4Format> : LargeTile<2, 5> {};
#endif

inline constexpr int64_t kManyRows = 32;        // of weights, for which x is fetched once
inline constexpr int64_t kManyTokens = 60;      // whose sums are kept at a time
inline constexpr int64_t kTileBytes = 20480;    // of x for a tile: in the L1 cache
inline constexpr int64_t kXBytes = 640 * 1024;  // of x at a time: in the L2 cache

/// Rows [row, end) with the T tokens of args. acc: [end - row][T] vectors.
template <class Format, int T>
void multiply_rows_of(const LinearArgs& args, int64_t row, int64_t end, Columns columns) {
  constexpr int kRows = ManyTile<Format>::kRows;
  for (; row + kRows <= end; row += kRows, columns.acc += kRows * T * kLanes) {
    multiply_tile<Format, kRows, T>(args, row, columns);
  }
  for (; row < end; ++row, columns.acc += T * kLanes) {
    multiply_tile<Format, 1, T>(args, row, columns);
  }
}

/// The same for up to T tokens.
template <class Format, int T>
void multiply_rows(const LinearArgs& args, int64_t row, int64_t end, const Columns& columns) {
  const auto tokens = static_cast<int>(args.x.size());
  if (tokens == T) return multiply_rows_of<Format, T>(args, row, end, columns);
  if constexpr (T > 1) multiply_rows<Format, T - 1>(args, row, end, columns);
}

/// Rows [row, end), at most kManyRows, with at most kManyTokens tokens. acc: [tokens][kManyRows]
/// vectors.
template <class Format>
void multiply_chunk(const LinearArgs& args, int64_t row, int64_t end, float* acc) {
  using Tile = ManyTile<Format>;
  constexpr int64_t kCols = kTileBytes / 4 / Tile::kTokens / kBlockCols * kBlockCols;
  const int64_t cols = args.w->cols;
  const auto tokens = static_cast<int64_t>(args.x.size());
  // Tiles of about the same size: a small one would not hide its decoding.
  const int64_t tiles = (tokens + Tile::kTokens - 1) / Tile::kTokens;
  for (int64_t begin = 0; begin < cols; begin += kCols) {
    for (int64_t tile = 0; tile < tiles; ++tile) {
      const int64_t first = tile * tokens / tiles;
      const auto size = static_cast<size_t>((tile + 1) * tokens / tiles - first);
      const auto at = static_cast<size_t>(first);
      const LinearArgs some = {args.w, row, end, args.x.subspan(at, size),
                               args.out.subspan(at, size)};
      multiply_rows<Format, Tile::kTokens>(
          some, row, end, {begin, std::min(begin + kCols, cols), acc + first * kManyRows * kLanes});
    }
  }
}

template <class Format>
void many(const LinearArgs& args) {
  HWY_ALIGN float acc[kManyTokens * kManyRows * kLanes];
  const int64_t most = std::clamp<int64_t>(kXBytes / 4 / args.w->cols, 12, kManyTokens);
  const auto all = static_cast<int64_t>(args.x.size());
  const int64_t chunks = (all + most - 1) / most;
  for (int64_t chunk = 0; chunk < chunks; ++chunk) {
    const auto first = static_cast<size_t>(chunk * all / chunks);
    const size_t count = static_cast<size_t>((chunk + 1) * all / chunks) - first;
    const LinearArgs some = {args.w, args.row_begin, args.row_end, args.x.subspan(first, count),
                             args.out.subspan(first, count)};
    for (int64_t row = args.row_begin; row < args.row_end; row += kManyRows) {
      multiply_chunk<Format>(some, row, std::min(row + kManyRows, args.row_end), acc);
    }
  }
}

}  // namespace
}  // namespace facet::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
