// Products with more rows of x than one tile takes, weights decoded in registers, for the
// instruction set being compiled. Re-included for each (see foreach_target.h). linear.cpp says how
// a sum is made.

#include <algorithm>
#include <cstdint>
#include <limits>
#include <span>

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

inline constexpr size_t kAnyTokens = std::numeric_limits<size_t>::max();

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
  static constexpr size_t kMostTokens = kAnyTokens;
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

inline constexpr int64_t kManyRows = 64;                 // of weights, for which x is fetched once
inline constexpr int64_t kManyTokens = 60;               // whose sums are kept at a time
inline constexpr int64_t kTileBytes = 20480;             // of x for a tile: in the L1 cache
inline constexpr int64_t kXBytes = int64_t{512} * 1024;  // of x at a time: in the L2 cache

inline LinearArgs some_tokens(const LinearArgs& args, int64_t first, int64_t count) {
  const auto at = static_cast<size_t>(first);
  const auto size = static_cast<size_t>(count);
  return {args.w, args.row_begin, args.row_end, args.x.subspan(at, size),
          args.out.subspan(at, size)};
}

/// The rows of args with its tokens, at most T.
template <class Format, int T>
void multiply_tokens(const LinearArgs& args, const Columns& columns) {
  if (args.x.size() == T) {
    return multiply_rows<Format, ManyTile<Format>::kRows, T>(args, columns);
  }
  if constexpr (T > 1) multiply_tokens<Format, T - 1>(args, columns);
}

/// At most kManyRows rows, with at most kManyTokens tokens. acc: [tokens][rows] vectors.
template <class Format>
void multiply_chunk(const LinearArgs& args, float* acc) {
  constexpr int64_t kTokens = ManyTile<Format>::kTokens;
  constexpr int64_t kCols = kTileBytes / 4 / kTokens / kBlockCols * kBlockCols;
  const int64_t rows = args.row_end - args.row_begin;
  const auto tokens = static_cast<int64_t>(args.x.size());
  // Tiles of about the same size: a small one would not hide its decoding.
  const int64_t tiles = (tokens + kTokens - 1) / kTokens;
  for (int64_t begin = 0; begin < args.w->cols; begin += kCols) {
    const int64_t end = std::min(begin + kCols, args.w->cols);
    for (int64_t tile = 0; tile < tiles; ++tile) {
      const int64_t first = tile * tokens / tiles;
      const int64_t count = (tile + 1) * tokens / tiles - first;
      multiply_tokens<Format, kTokens>(some_tokens(args, first, count),
                                       {begin, end, acc + first * rows * kLanes});
    }
  }
}

template <class Format>
void many(const LinearArgs& args) {
  HWY_ALIGN float acc[kManyTokens * kManyRows * kLanes];
  const auto tokens = static_cast<int64_t>(args.x.size());
  const int64_t most = std::clamp<int64_t>(kXBytes / 4 / args.w->cols, 12, kManyTokens);
  const int64_t chunks = (tokens + most - 1) / most;
  for (int64_t chunk = 0; chunk < chunks; ++chunk) {
    const int64_t first = chunk * tokens / chunks;
    LinearArgs some = some_tokens(args, first, (chunk + 1) * tokens / chunks - first);
    for (int64_t row = args.row_begin; row < args.row_end; row += kManyRows) {
      some.row_begin = row;
      some.row_end = std::min(row + kManyRows, args.row_end);
      multiply_chunk<Format>(some, acc);
    }
  }
}

}  // namespace
}  // namespace facet::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
