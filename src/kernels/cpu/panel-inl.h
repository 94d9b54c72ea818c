// Products with many rows of x by way of weights decoded to floats, for the instruction set being
// compiled. Re-included for each (see foreach_target.h). linear.cpp says how a sum is made.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <span>

#include "kernels/cpu/decode_columns.h"
#include "kernels/cpu/kernel_table.h"

#if defined(FACET_CPU_PANEL_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef FACET_CPU_PANEL_INL_H
#undef FACET_CPU_PANEL_INL_H
#else
#define FACET_CPU_PANEL_INL_H
#endif

#include "kernels/cpu/tile-inl.h"

HWY_BEFORE_NAMESPACE();
namespace facet::cpu::HWY_NAMESPACE {
namespace {

inline constexpr int64_t kPanelRows = 16;
inline constexpr int32_t kTileRows = 4;
// Sums, x and one weight vector must fit the registers: 16 of them, or 32.
#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_NEON
inline constexpr int32_t kTileTokens = 6;
#else
inline constexpr int32_t kTileTokens = 3;
#endif
/// Tokens whose accumulators are kept at a time: 64 kB of them.
inline constexpr int64_t kTokenChunk =
    65536 / (kPanelRows * kLanes * 4) / kTileTokens * kTileTokens;

/// Any layout, one column at a time: for panels alone.
struct AnyFormat : Unscaled {};

/// kPanelRows x kBlockCols codes as floats, and the scales of their groups. Rows up to a multiple
/// of kTileRows, and columns up to whole groups, are zeros.
template <class Format>
struct Panel {
  static constexpr int64_t kGroups = Format::kScaled ? kBlockVectors / Format::kGroupVectors : 0;
  HWY_ALIGN float w[kPanelRows][kBlockCols];
  HWY_ALIGN float s[kPanelRows][kGroups * kLanes + 1];

  void decode(const WeightMatrix& matrix, int64_t row, int64_t rows, int64_t begin, int64_t count);
};

template <class Format>
void Panel<Format>::decode(
    const WeightMatrix& matrix, int64_t row, int64_t rows, int64_t begin, int64_t count) {
  const int64_t vectors = vectors_of<Format>(count);
  for (int64_t r = 0; r < rows; ++r) {
    LastCodes<Format> last;
    const uint8_t* p = codes_of<Format>(matrix, row + r, begin);
    // While this panel is multiplied, the next one is fetched: that of the next columns, or at the
    // end of the rows that of the next rows.
    const uint8_t* next = begin + kBlockCols < matrix.cols
                              ? p + Format::offset(kBlockCols)
                              : codes_of<Format>(matrix, row + r + kPanelRows, 0);
    for (int64_t i = 0; i <= Format::offset(kBlockCols); i += 64) {  // rows may straddle lines
      __builtin_prefetch(next + i, 0, 2);
    }
    if (needs_padding<Format>(count)) p = last.fill(matrix, row + r, begin);
    for (int64_t v = 0; v < vectors; v += Format::kChunkVectors) {
      typename Format::Codes codes;
      codes.load(p + Format::offset(v * kLanes), count - v * kLanes);
#pragma GCC unroll 16
      for (int64_t i = 0; i < Format::kChunkVectors; ++i) {
        hn::Store(codes.next(i), D(), w[r] + (v + i) * kLanes);
      }
    }
    if constexpr (Format::kScaled) {
      typename Format::Scales scales;
      scales.prepare(matrix, row + r, begin, count);
      for (int64_t g = 0; g * Format::kGroupVectors < vectors; ++g) {
        store(scales.group(g), s[r] + g * kLanes);
      }
    }
  }
}

template <>
inline void Panel<AnyFormat>::decode(
    const WeightMatrix& matrix, int64_t row, int64_t rows, int64_t begin, int64_t count) {
  for (int64_t r = 0; r < rows; ++r) {
    std::fill(w[r] + count, w[r] + kBlockCols, 0.0F);
    decode_columns(matrix, row + r, begin, count, w[r]);
  }
}

/// Adds the products of kTileRows panel rows with T tokens. x: of the block; acc: for each token
/// [kPanelRows] vectors, from the tile's first row on.
template <class Format, int T>
void multiply_panel_tile(const Panel<Format>& panel,
                         int64_t row,
                         const float* const (&x)[T],
                         int64_t vectors,
                         float* acc) {
  const float* w = panel.w[row];
  for (int64_t v = 0; v < vectors; v += Format::kGroupVectors) {
    V sum[kTileRows][T];
    if constexpr (Format::kScaled) {
      clear(sum);
    } else {
#pragma GCC unroll 8
      for (int32_t r = 0; r < kTileRows; ++r) {
#pragma GCC unroll 8
        for (int t = 0; t < T; ++t) sum[r][t] = hn::Load(D(), acc + (t * kPanelRows + r) * kLanes);
      }
    }
    const int64_t end = std::min(v + Format::kGroupVectors, vectors) * kLanes;
    for (int64_t c = v * kLanes; c < end; c += kLanes) {
      V xv[T];
#pragma GCC unroll 8
      for (int t = 0; t < T; ++t) xv[t] = hn::Load(D(), x[t] + c);
#pragma GCC unroll 8
      for (int32_t r = 0; r < kTileRows; ++r) {
        const V wv = hn::Load(D(), w + r * kBlockCols + c);
#pragma GCC unroll 8
        for (int t = 0; t < T; ++t) sum[r][t] = hn::MulAdd(wv, xv[t], sum[r][t]);
      }
    }
#pragma GCC unroll 8
    for (int32_t r = 0; r < kTileRows; ++r) {
      if constexpr (Format::kScaled) {
        const V scale = load(panel.s[row + r] + v / Format::kGroupVectors * kLanes);
#pragma GCC unroll 8
        for (int t = 0; t < T; ++t) {
          sum[r][t] =
              hn::MulAdd(sum[r][t], scale, hn::Load(D(), acc + (t * kPanelRows + r) * kLanes));
        }
      }
#pragma GCC unroll 8
      for (int t = 0; t < T; ++t) {
        hn::Store(sum[r][t], D(), acc + (t * kPanelRows + r) * kLanes);
      }
    }
  }
}

/// Adds the panel's products with all tokens of a chunk. acc: [tokens][kPanelRows] vectors.
template <class Format, int T>
void multiply_panel(const Panel<Format>& panel,
                    int64_t rows,
                    std::span<const float* const> x,
                    int64_t begin,
                    int64_t vectors,
                    float* acc) {
  size_t first = 0;
  for (; first + T <= x.size(); first += T, acc += T * kPanelRows * kLanes) {
    const float* tokens[T];
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) tokens[t] = x[first + static_cast<size_t>(t)] + begin;
    for (int64_t r = 0; r < rows; r += kTileRows) {
      multiply_panel_tile<Format, T>(panel, r, tokens, vectors, acc + r * kLanes);
    }
  }
  if constexpr (T > 1) {
    if (first < x.size()) {
      multiply_panel<Format, T - 1>(panel, rows, x.subspan(first), begin, vectors, acc);
    }
  }
}

template <class Format>
void panel_rows(const LinearArgs& args, int64_t row, int64_t rows) {
  const WeightMatrix& w = *args.w;
  Panel<Format> panel;
  std::fill(panel.w[0] + rows * kBlockCols, panel.w[0] + kPanelRows * kBlockCols, 0.0F);
  for (int64_t r = rows; r < kPanelRows; ++r)
    std::fill(std::begin(panel.s[r]), std::end(panel.s[r]), 0.0F);
  float factors[kPanelRows];
  for (int64_t r = 0; r < rows; ++r) factors[r] = Format::factor(w, row + r);
  HWY_ALIGN float acc[kTokenChunk * kPanelRows * kLanes];
  const auto all = static_cast<int64_t>(args.x.size());
  for (int64_t first = 0; first < all; first += kTokenChunk) {
    const int64_t tokens = std::min(kTokenChunk, all - first);
    const std::span x = args.x.subspan(static_cast<size_t>(first), static_cast<size_t>(tokens));
    std::fill(acc, acc + tokens * kPanelRows * kLanes, 0.0F);
    for (int64_t begin = 0; begin < w.cols; begin += kBlockCols) {
      const int64_t count = std::min(kBlockCols, w.cols - begin);
      panel.decode(w, row, rows, begin, count);
      multiply_panel<Format, kTileTokens>(panel, rows, x, begin, vectors_of<Format>(count), acc);
    }
    for (int64_t t = 0; t < tokens; ++t) {
      float* out = args.out[static_cast<size_t>(first + t)] + row;
      int64_t r = 0;
      for (; r + 4 <= rows; r += 4) {
        const float* sums = acc + (t * kPanelRows + r) * kLanes;
        const V four[4] = {hn::Load(D(), sums), hn::Load(D(), sums + kLanes),
                           hn::Load(D(), sums + 2 * kLanes), hn::Load(D(), sums + 3 * kLanes)};
        sums_of(four, factors + r, out + r);
      }
      for (; r < rows; ++r) {
        out[r] = sum_of(hn::Load(D(), acc + (t * kPanelRows + r) * kLanes)) * factors[r];
      }
    }
  }
}

}  // namespace
}  // namespace facet::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
