// out = x · wᵀ for every weight format and instruction set; x as `arrange` gives it.
//
// The sum of one (weight row, token) pair is one vector accumulator that takes the groups of a row
// in order (decode-inl.h), and the lanes are added at the end. Both forms keep to that, so they
// give the same bits:
//   direct  up to kDirectTokens tokens: codes become floats in registers. Bound by memory up to
//           kTileX tokens.
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

#include "kernels/cpu/kernel_table.h"
#include "kernels/cpu/nibbles-inl.h"
#include "kernels/cpu/panel-inl.h"

HWY_BEFORE_NAMESPACE();
namespace facet::cpu::HWY_NAMESPACE {
namespace {

static_assert(Int8Format::kGroupCols == kInt8Columns);

constexpr size_t kTileX = 4;          // rows of x that a direct tile takes
constexpr size_t kDirectTokens = 12;  // above, a panel is worth its making

/// What the products of one call work on: R weight rows and T tokens, from the block's first column
/// on.
template <class Format, int R, int T>
struct Operands {
  typename Format::Scales scales[R];  // first, since it may be aligned to a vector
  const uint8_t* codes[R];
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
    if constexpr (kGroup > kVectors) clear(sum);
    for (int64_t c = v; c < std::min(v + std::max(kVectors, kGroup), vectors); c += kVectors) {
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        codes[r].load(in.codes[r] + Format::offset(c * kLanes), count - c * kLanes);
      }
      if constexpr (kGroup > kVectors) {
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
      // Rows that are read side by side are too short for the processor's own prefetching. They are
      // fetched two tiles ahead: about half a microsecond, as long as a read waits for its turn.
      for (int64_t i = 0; i < Format::offset(kBlockCols); i += 64) {
        __builtin_prefetch(codes + 2 * R * Format::offset(w.cols) + i, 0, 2);
      }
      __builtin_prefetch(Format::Scales::at(w, row + r + 2 * R, begin), 0, 2);
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
  constexpr int kRows = Format::direct_rows(T);
  int64_t row = args.row_begin;
  for (; row + kRows <= args.row_end; row += kRows) direct_tile<Format, kRows, T>(args, row);
  for (; row < args.row_end; ++row) direct_tile<Format, 1, T>(args, row);
}

/// The same with more rows of x than a tile takes: the weights come from the caches again.
template <class Format, int R>
void direct_tiles(const LinearArgs& args, int64_t row) {
  for (size_t first = 0; first < args.x.size(); first += kTileX) {
    const size_t count = std::min(kTileX, args.x.size() - first);
    const LinearArgs some = {args.w, args.row_begin, args.row_end, args.x.subspan(first, count),
                             args.out.subspan(first, count)};
    switch (count) {
      case 1:
        direct_tile<Format, R, 1>(some, row);
        break;
      case 2:
        direct_tile<Format, R, 2>(some, row);
        break;
      case 3:
        direct_tile<Format, R, 3>(some, row);
        break;
      default:
        direct_tile<Format, R, kTileX>(some, row);
        break;
    }
  }
}

template <class Format>
void direct_many(const LinearArgs& args) {
  constexpr int kRows = Format::direct_rows(kTileX);
  int64_t row = args.row_begin;
  for (; row + kRows <= args.row_end; row += kRows) direct_tiles<Format, kRows>(args, row);
  for (; row < args.row_end; ++row) direct_tiles<Format, 1>(args, row);
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
      case kTileX:
        return direct<Format, kTileX>(args);
      default:
        if (args.x.size() <= kDirectTokens) return direct_many<Format>(args);
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
