// out = x · wᵀ for every weight format and instruction set; x as `arrange` gives it.
//
// The sum of one (weight row, token) pair is one vector accumulator that takes the groups of a row
// in order (decode-inl.h), and the lanes are added at the end. Both shapes below keep to that, so
// they give the same bits:
//   direct  up to kDirectTokens tokens: codes become floats in registers. Bound by memory.
//   panel   more tokens: kPanelRows x kBlockCols codes become floats in a small array that all
//           tokens are multiplied with. Bound by multiply-adds.
//
// The short loops over rows, tokens and vectors are unrolled by pragma: only then are their arrays
// registers.

#include "kernels/cpu/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/linear.cpp"
#include <algorithm>
#include <hwy/foreach_target.h>  // compiles this file once per target; must precede highway.h
#include <hwy/highway.h>

#include "kernels/cpu/decode_columns.h"
#include "kernels/cpu/kernel_table.h"
#include "kernels/cpu/nibbles-inl.h"

HWY_BEFORE_NAMESPACE();
namespace facet::cpu::HWY_NAMESPACE {
namespace {

static_assert(Int8Format::kGroupCols == kInt8Columns);

constexpr int64_t kDirectTokens = 4;
constexpr int64_t kPanelRows = 16;
constexpr int32_t kTileRows = 4;
// Sums, x and one weight vector must fit the registers: 16 of them, or 32.
#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_NEON
constexpr int32_t kTileTokens = 6;
#else
constexpr int32_t kTileTokens = 3;
#endif
/// Tokens whose accumulators are kept at a time: 64 kB of them.
constexpr int64_t kTokenChunk = 65536 / (kPanelRows * kLanes * 4) / kTileTokens * kTileTokens;

template <class Format>
const uint8_t* codes_of(const WeightMatrix& w, int64_t row, int64_t column) {
  return bytes_of(w.data) + row * Format::offset(w.cols) + Format::offset(column);
}

/// The codes of one row for a block at its end, padded with bytes of zeros.
template <class Format>
struct LastCodes {
  alignas(64) uint8_t bytes[Format::offset(kBlockCols)];
  const uint8_t* fill(const WeightMatrix& w, int64_t row, int64_t begin) {
    const auto size = static_cast<size_t>(Format::offset(w.cols) - Format::offset(begin));
    std::memcpy(bytes, codes_of<Format>(w, row, begin), size);
    std::fill(bytes + size, std::end(bytes), uint8_t{0});
    return bytes;
  }
};

/// Vectors of a block with `count` columns, in whole chunks.
template <class Format>
constexpr int64_t vectors_of(int64_t count) {
  return round_up(count, Format::kChunkVectors * kLanes) / kLanes;
}

template <class Format>
constexpr bool needs_padding(int64_t count) {
  return !Format::kPartialLoads && vectors_of<Format>(count) * kLanes > count;
}

/// What the products of one call work on: R weight rows and T tokens, from the block's first column
/// on.
template <class Format, int R, int T>
struct Operands {
  const uint8_t* codes[R];
  typename Format::Scales scales[R];
  const float* x[T];
};

/// sum[r][t] += the products of the chunk's vectors [first, first + count); v: the chunk's place in
/// the block.
template <class Format, int R, int T>
HWY_INLINE void add_vectors(typename Format::Codes (&codes)[R],
                            const Operands<Format, R, T>& in,
                            int64_t v,
                            int64_t first,
                            int64_t count,
                            V (&sum)[R][T]) {
#pragma GCC unroll 16
  for (int64_t i = first; i < first + count; ++i) {
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const V w = codes[r].next(i);
#pragma GCC unroll 8
      for (int t = 0; t < T; ++t) {
        sum[r][t] = hn::MulAdd(w, hn::Load(D(), in.x[t] + (v + i) * kLanes), sum[r][t]);
      }
    }
  }
}

template <int R, int T>
HWY_INLINE void clear(V (&sum)[R][T]) {
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) sum[r][t] = zero();
  }
}

template <class Format, int R, int T>
HWY_INLINE void add_group(const Operands<Format, R, T>& in,
                          int64_t group,
                          const V (&sum)[R][T],
                          V (&acc)[R][T]) {
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
    const V scale = in.scales[r].group(group);
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) {
      acc[r][t] =
          Format::kScaled ? hn::MulAdd(sum[r][t], scale, acc[r][t]) : hn::Add(sum[r][t], acc[r][t]);
    }
  }
}

/// acc[r][t] += the products of a block of `count` columns.
template <class Format, int R, int T>
HWY_INLINE void add_block(const Operands<Format, R, T>& in, int64_t count, V (&acc)[R][T]) {
  const int64_t vectors = vectors_of<Format>(count);
  constexpr int64_t kVectors = Format::kChunkVectors;
  constexpr int64_t kGroup = Format::kGroupVectors;
  typename Format::Codes codes[R];
  V sum[R][T];
  for (int64_t v = 0; v < vectors; v += std::max(kVectors, kGroup)) {
    for (int64_t c = v; c < std::min(v + std::max(kVectors, kGroup), vectors); c += kVectors) {
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        codes[r].load(in.codes[r] + Format::offset(c * kLanes), count - c * kLanes);
      }
      if constexpr (kGroup > kVectors) {
        if (c == v) clear(sum);
        add_vectors(codes, in, c, 0, kVectors, sum);
      } else {
#pragma GCC unroll 8
        for (int64_t g = 0; g < kVectors; g += kGroup) {
          clear(sum);
          add_vectors(codes, in, c, g, kGroup, sum);
          add_group(in, (c + g) / kGroup, sum, acc);
        }
      }
    }
    if constexpr (kGroup > kVectors) add_group(in, v / kGroup, sum, acc);
  }
}

/// acc[r][t] += the products of columns [begin, begin + count), at most a block.
template <class Format, int R, int T>
HWY_INLINE void add_columns(const WeightMatrix& w,
                            const LinearArgs& args,
                            int64_t row,
                            int64_t begin,
                            int64_t count,
                            V (&acc)[R][T]) {
  Operands<Format, R, T> in;
  LastCodes<Format> last[R];
  const bool pad = needs_padding<Format>(count);
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
    in.scales[r].prepare(w, row + r, begin, count);
    const uint8_t* codes = codes_of<Format>(w, row + r, begin);
    in.codes[r] = pad ? last[r].fill(w, row + r, begin) : codes;
    if constexpr (R > 1) {
      // Rows that are read side by side are too short for the processor's own prefetching.
      for (int64_t i = 0; i < Format::offset(kBlockCols); i += 64) {
        __builtin_prefetch(codes + R * Format::offset(w.cols) + i, 0, 2);
      }
      __builtin_prefetch(Format::Scales::at(w, row + r + R, begin), 0, 2);
    }
  }
#pragma GCC unroll 8
  for (int t = 0; t < T; ++t) in.x[t] = args.x[static_cast<size_t>(t)] + begin;
  add_block(in, count, acc);
}

/// out[token][row + r] for all T tokens, r < R.
template <class Format, int R, int T>
void direct_tile(const LinearArgs& args, int64_t row) {
  const WeightMatrix w = *args.w;  // a copy of ours: its fields stay in registers
  V acc[R][T];
  clear(acc);
  int64_t begin = 0;
  for (; begin + kBlockCols <= w.cols; begin += kBlockCols) {
    add_columns<Format>(w, args, row, begin, kBlockCols, acc);
  }
  if (begin < w.cols) add_columns<Format>(w, args, row, begin, w.cols - begin, acc);
  float factors[R];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) factors[r] = Format::factor(w, row + r);
  if constexpr (R == 4 && T == 1) {
    const V sums[4] = {acc[0][0], acc[1][0], acc[2][0], acc[3][0]};
    sums_of(sums, factors, args.out[0] + row);
    return;
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) {
      args.out[static_cast<size_t>(t)][row + r] = sum_of(acc[r][t]) * factors[r];
    }
  }
}

template <class Format, int T>
void direct(const LinearArgs& args) {
  constexpr int R = Format::direct_rows(T);
  int64_t row = args.row_begin;
  for (; row + R <= args.row_end; row += R) direct_tile<Format, R, T>(args, row);
  for (; row < args.row_end; ++row) direct_tile<Format, 1, T>(args, row);
}

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
void Panel<AnyFormat>::decode(
    const WeightMatrix& matrix, int64_t row, int64_t rows, int64_t begin, int64_t count) {
  for (int64_t r = 0; r < rows; ++r) {
    std::fill(w[r] + count, w[r] + kBlockCols, 0.0F);
    decode_columns(matrix, row + r, begin, count, w[r]);
  }
}

/// Adds the products of kTileRows panel rows with T tokens. x: of the block; acc: for each token
/// [kPanelRows] vectors, from the tile's first row on.
template <class Format, int T>
void multiply_tile(const Panel<Format>& panel,
                   int64_t row,
                   const float* const (&x)[T],
                   int64_t vectors,
                   float* acc) {
  const float* w = panel.w[row];
  for (int64_t v = 0; v < vectors; v += Format::kGroupVectors) {
    V sum[kTileRows][T];
    clear(sum);
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
      V scale = zero();
      if constexpr (Format::kScaled) {
        scale = load(panel.s[row + r] + v / Format::kGroupVectors * kLanes);
      }
#pragma GCC unroll 8
      for (int t = 0; t < T; ++t) {
        float* at = acc + (t * kPanelRows + r) * kLanes;
        const V before = hn::Load(D(), at);
        hn::Store(
            Format::kScaled ? hn::MulAdd(sum[r][t], scale, before) : hn::Add(sum[r][t], before),
            D(), at);
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
      multiply_tile<Format, T>(panel, r, tokens, vectors, acc + r * kLanes);
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

template <class Format>
void linear_as(const LinearArgs& args) {
  if constexpr (!std::is_same_v<Format, AnyFormat>) {
    switch (args.x.size()) {
      case 1:
        return direct<Format, 1>(args);
      case 2:
        return direct<Format, 2>(args);
      case 3:
        return direct<Format, 3>(args);
      case kDirectTokens:
        return direct<Format, 4>(args);
      default:
        break;
    }
  }
  for (int64_t row = args.row_begin; row < args.row_end; row += kPanelRows) {
    panel_rows<Format>(args, row, std::min(kPanelRows, args.row_end - row));
  }
}

void linear(const LinearArgs& args) {
  if (args.x.empty()) return;
  switch (args.w->format) {
    case WeightFormat::kF32:
      return linear_as<F32Format>(args);
    case WeightFormat::kF16:
      return linear_as<F16Format>(args);
    case WeightFormat::kBF16:
      return linear_as<BF16Format>(args);
    case WeightFormat::kFp8:
      return linear_as<Fp8Format>(args);
    case WeightFormat::kFp8Block:
      return linear_as<Fp8BlockFormat>(args);
    case WeightFormat::kNvfp4:
      return linear_as<Nvfp4Format>(args);
    case WeightFormat::kInt8Group:
      if (args.w->group_size == Int8Format::kGroupCols) return linear_as<Int8Format>(args);
      return linear_as<AnyFormat>(args);
    case WeightFormat::kInt4Group:
      if (x_order(*args.w) == XOrder::kNibbles) return linear_as<Int4Format>(args);
      return linear_as<AnyFormat>(args);
  }
}

void arrange(XOrder order, const float* x, int64_t cols, float* out) {
  if (order == XOrder::kNibbles) return arrange_nibbles(x, cols, out);
  std::memcpy(out, x, static_cast<size_t>(cols) * sizeof(float));
  std::fill(out + cols, out + round_up(cols, kBlockCols), 0.0F);
}

}  // namespace

void set_linear(KernelTable& table) {
  table.linear = linear;
  table.arrange = arrange;
}

}  // namespace facet::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace facet::cpu {

void set_linear_kernels(Isa isa, KernelTable& table) {
  switch (isa) {
#if HWY_TARGETS & HWY_AVX2
    case Isa::kAvx2:
      return N_AVX2::set_linear(table);
    case Isa::kAvx512:
      return N_AVX3::set_linear(table);
#endif
    default:
      return HWY_STATIC_DISPATCH(set_linear)(table);
  }
}

}  // namespace facet::cpu
#endif
