// out = x · wᵀ for every weight format and instruction set.
//
// The sum of one (weight row, token) pair is one vector accumulator: lane i takes the columns i,
// i + kLanes, i + 2 kLanes, … in order, one fused multiply-add each, and the lanes are added at the
// end. Both shapes below keep to that, so they give the same bits:
//   direct  up to kDirectTokens tokens: codes become floats in registers. Bound by memory.
//   panel   more tokens: blocks of kPanelRows x kBlockCols weights become floats in a small array
//           that all tokens are multiplied with. Bound by multiply-adds.
//
// The short loops over rows, tokens and vectors are unrolled by pragma: only then are their arrays
// registers.

#include "kernels/cpu/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/linear.cpp"
#include <algorithm>
#include <hwy/cache_control.h>
#include <hwy/foreach_target.h>  // compiles this file once per target; must precede highway.h
#include <hwy/highway.h>
#include <type_traits>

#include "kernels/cpu/decode-inl.h"
#include "kernels/cpu/decode_columns.h"
#include "kernels/cpu/kernel_table.h"

HWY_BEFORE_NAMESPACE();
namespace facet::cpu::HWY_NAMESPACE {
namespace {

constexpr int64_t kDirectTokens = 4;
constexpr int64_t kPanelRows = 16;
constexpr int32_t kTileRows = 4;
// Accumulators, x and one weight vector must fit the registers: 16 of them, or 32.
#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_NEON
constexpr int32_t kTileTokens = 6;
#else
constexpr int32_t kTileTokens = 3;
#endif
/// Tokens whose accumulators are kept at a time: 64 kB of them.
constexpr int64_t kTokenChunk = 65536 / (kPanelRows * kLanes * 4) / kTileTokens * kTileTokens;

/// The weights of rows [row, row + R) behind the last whole chunk, padded with zeros.
template <int R>
void add_tail(const LinearArgs& args,
              int64_t row,
              int64_t begin,
              int64_t token,
              int32_t tokens,
              V* acc /* [R][tokens] */) {
  const int64_t count = args.w->cols - begin;
  const int64_t vectors = round_up(count, kLanes) / kLanes;
  HWY_ALIGN float weights[R][kChunk] = {};
  for (int r = 0; r < R; ++r) decode_columns(*args.w, row + r, begin, count, weights[r]);
  for (int32_t t = 0; t < tokens; ++t) {
    const float* x = args.x[static_cast<size_t>(token + t)] + begin;
    for (int64_t i = 0; i < vectors; ++i) {
      const int64_t left = count - i * kLanes;
      const V xv = left >= kLanes ? load(x + i * kLanes) : load_part(x + i * kLanes, left);
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        V& sum = acc[r * tokens + t];
        sum = hn::MulAdd(load(&weights[r][i * kLanes]), xv, sum);
      }
    }
  }
}

/// Asks for the cache lines of Bytes bytes from p on, which need not be ours.
template <int64_t Bytes>
HWY_INLINE void prefetch(const uint8_t* p) {
#pragma GCC unroll 8
  for (int64_t i = 0; i < Bytes; i += 64) hwy::Prefetch(p + i);
}

/// out[token + t][row + r], t < T, r < R. While it works it asks for the next R rows: rows are too
/// short for the processor's own prefetching to get under way.
template <class Format, int R, int T>
void direct_tile(const LinearArgs& args, int64_t row, int64_t token) {
  const WeightMatrix& w = *args.w;
  const uint8_t* codes[R];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) codes[r] = bytes_of(w.data) + (row + r) * Format::offset(w.cols);
  const float* x[T];
#pragma GCC unroll 8
  for (int t = 0; t < T; ++t) x[t] = args.x[static_cast<size_t>(token + t)];

  V acc[R][T];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) acc[r][t] = zero();
  }
  BlockScales scales[R];
  const int64_t whole = w.cols / kChunk * kChunk;
  for (int64_t begin = 0; begin < whole; begin += kBlockCols) {
    const int64_t count = std::min(kBlockCols, w.cols - begin);
    const int64_t end = std::min(begin + kBlockCols, whole);
    for (int r = 0; r < R; ++r) Format::prepare(w, row + r, begin, count, scales[r]);
    for (int64_t c = begin; c < end; c += kChunk) {
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        const uint8_t* p = codes[r] + Format::offset(c);
        prefetch<Format::offset(kChunk)>(p + R * Format::offset(w.cols));
        const Chunk chunk = Format::chunk(p, scales[r], c - begin);
#pragma GCC unroll 8
        for (int t = 0; t < T; ++t) {
#pragma GCC unroll 8
          for (int64_t i = 0; i < 4; ++i) {
            acc[r][t] = hn::MulAdd(chunk.v[i], load(x[t] + c + i * kLanes), acc[r][t]);
          }
        }
      }
    }
  }
  if (whole < w.cols) add_tail<R>(args, row, whole, token, T, &acc[0][0]);
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t)
      args.out[static_cast<size_t>(token + t)][row + r] = sum_of(acc[r][t]);
  }
}

template <class Format, int R, int T>
void direct_rows(const LinearArgs& args) {
  int64_t row = args.row_begin;
  for (; row + R <= args.row_end; row += R) direct_tile<Format, R, T>(args, row, 0);
  for (; row < args.row_end; ++row) direct_tile<Format, 1, T>(args, row, 0);
}

template <class Format>
void direct(const LinearArgs& args) {
  switch (args.x.size()) {
    case 1:
      return direct_rows<Format, 4, 1>(args);
    case 2:
      return direct_rows<Format, 4, 2>(args);
    case 3:
      return direct_rows<Format, 2, 3>(args);
    default:
      return direct_rows<Format, 2, 4>(args);
  }
}

/// Weights as floats: [kPanelRows][kBlockCols]; a row's columns are padded with zeros to whole
/// vectors, and rows up to a multiple of kTileRows are zeros.
struct Panel {
  HWY_ALIGN float w[kPanelRows][kBlockCols];
};

template <class Format>
void decode_panel(const WeightMatrix& w,
                  int64_t row,
                  int64_t rows,
                  int64_t begin,
                  int64_t count,
                  BlockScales* scales,
                  Panel& panel) {
  const int64_t whole = count / kChunk * kChunk;
  for (int64_t r = 0; r < rows; ++r) {
    const uint8_t* codes = bytes_of(w.data) + (row + r) * Format::offset(w.cols);
    Format::prepare(w, row + r, begin, count, scales[r]);
    float* out = panel.w[r];
    for (int64_t c = 0; c < whole; c += kChunk) {
      const Chunk chunk = Format::chunk(codes + Format::offset(begin + c), scales[r], c);
#pragma GCC unroll 8
      for (int64_t i = 0; i < 4; ++i) hn::Store(chunk.v[i], D(), out + c + i * kLanes);
    }
    if (whole < count) {
      std::fill(out + whole, out + round_up(count, kLanes), 0.0F);
      decode_columns(w, row + r, begin + whole, count - whole, out + whole);
    }
  }
}

/// Any layout, one column at a time.
struct AnyFormat {};
template <>
void decode_panel<AnyFormat>(const WeightMatrix& w,
                             int64_t row,
                             int64_t rows,
                             int64_t begin,
                             int64_t count,
                             BlockScales* /*scales*/,
                             Panel& panel) {
  for (int64_t r = 0; r < rows; ++r) {
    std::fill(panel.w[r] + count, panel.w[r] + round_up(count, kLanes), 0.0F);
    decode_columns(w, row + r, begin, count, panel.w[r]);
  }
}

/// Adds the products of kTileRows panel rows with T tokens. acc: for each token [kPanelRows]
/// vectors, from the tile's first row on.
template <int T>
void multiply_tile(
    const float* w, const float* const* x, int64_t begin, int64_t count, float* acc) {
  V sum[kTileRows][T];
#pragma GCC unroll 8
  for (int32_t r = 0; r < kTileRows; ++r) {
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) sum[r][t] = load(acc + (t * kPanelRows + r) * kLanes);
  }
  const float* tokens[T];
#pragma GCC unroll 8
  for (int t = 0; t < T; ++t) tokens[t] = x[t] + begin;
  const int64_t whole = count / kLanes * kLanes;
  for (int64_t c = 0; c < whole; c += kLanes) {
    V xv[T];
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) xv[t] = load(tokens[t] + c);
#pragma GCC unroll 8
    for (int32_t r = 0; r < kTileRows; ++r) {
      const V wv = hn::Load(D(), w + r * kBlockCols + c);
#pragma GCC unroll 8
      for (int t = 0; t < T; ++t) sum[r][t] = hn::MulAdd(wv, xv[t], sum[r][t]);
    }
  }
  if (whole < count) {
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) {
      const V xv = load_part(tokens[t] + whole, count - whole);
#pragma GCC unroll 8
      for (int32_t r = 0; r < kTileRows; ++r) {
        sum[r][t] = hn::MulAdd(hn::Load(D(), w + r * kBlockCols + whole), xv, sum[r][t]);
      }
    }
  }
#pragma GCC unroll 8
  for (int32_t r = 0; r < kTileRows; ++r) {
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) store(sum[r][t], acc + (t * kPanelRows + r) * kLanes);
  }
}

template <int T>
void multiply_tokens(const Panel& panel,
                     int64_t rows,
                     const float* const* x,
                     int64_t begin,
                     int64_t count,
                     float* acc) {
  for (int64_t r = 0; r < rows; r += kTileRows) {
    multiply_tile<T>(panel.w[r], x, begin, count, acc + r * kLanes);
  }
}

/// Adds the panel's products with all tokens of a chunk. acc: [tokens][kPanelRows] vectors.
template <int T>
void multiply_panel(const Panel& panel,
                    int64_t rows,
                    const float* const* x,
                    int64_t tokens,
                    int64_t begin,
                    int64_t count,
                    float* acc) {
  int64_t t = 0;
  for (; t + T <= tokens; t += T) {
    multiply_tokens<T>(panel, rows, x + t, begin, count, acc + t * kPanelRows * kLanes);
  }
  if constexpr (T > 1) {
    if (t == tokens) return;
    multiply_panel<T - 1>(panel, rows, x + t, tokens - t, begin, count,
                          acc + t * kPanelRows * kLanes);
  }
}

template <class Format>
void panel_rows(const LinearArgs& args, int64_t row, int64_t rows) {
  const WeightMatrix& w = *args.w;
  Panel panel;
  std::fill(&panel.w[0][0] + rows * kBlockCols, &panel.w[0][0] + kPanelRows * kBlockCols, 0.0F);
  HWY_ALIGN float acc[kTokenChunk * kPanelRows * kLanes];
  BlockScales scales[kPanelRows];
  const auto all = static_cast<int64_t>(args.x.size());
  for (int64_t first = 0; first < all; first += kTokenChunk) {
    const int64_t tokens = std::min(kTokenChunk, all - first);
    std::fill(acc, acc + tokens * kPanelRows * kLanes, 0.0F);
    for (int64_t begin = 0; begin < w.cols; begin += kBlockCols) {
      const int64_t count = std::min(kBlockCols, w.cols - begin);
      decode_panel<Format>(w, row, rows, begin, count, scales, panel);
      multiply_panel<kTileTokens>(panel, rows, args.x.data() + first, tokens, begin, count, acc);
    }
    for (int64_t t = 0; t < tokens; ++t) {
      float* out = args.out[static_cast<size_t>(first + t)] + row;
      for (int64_t r = 0; r < rows; ++r) out[r] = sum_of(load(acc + (t * kPanelRows + r) * kLanes));
    }
  }
}

template <class Format>
void linear_as(const LinearArgs& args) {
  if constexpr (!std::is_same_v<Format, AnyFormat>) {
    if (static_cast<int64_t>(args.x.size()) <= kDirectTokens) return direct<Format>(args);
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
    case WeightFormat::kFp8Block:
      return linear_as<Fp8Format>(args);
    case WeightFormat::kNvfp4:
      return linear_as<Nvfp4Format>(args);
    case WeightFormat::kInt8Group:
      if (args.w->group_size % kScaleCols == 0) return linear_as<Int8Format>(args);
      return linear_as<AnyFormat>(args);
    case WeightFormat::kInt4Group:
      if (args.w->group_size % kScaleCols == 0) return linear_as<Int4Format>(args);
      return linear_as<AnyFormat>(args);
  }
}

}  // namespace

void set_linear(KernelTable& table) { table.linear = linear; }

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
