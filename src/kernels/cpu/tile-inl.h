// Products of some weight rows with some rows of x, the sums of which stay in registers, for the
// instruction set being compiled. Re-included for each (see foreach_target.h). linear.cpp says how
// a sum is made.
//
// The short loops over rows, tokens and vectors are unrolled by pragma: only then are their arrays
// registers.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <iterator>

#include "kernels/cpu/kernel_table.h"

#if defined(FACET_CPU_TILE_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef FACET_CPU_TILE_INL_H
#undef FACET_CPU_TILE_INL_H
#else
#define FACET_CPU_TILE_INL_H
#endif

#include "kernels/cpu/decode-inl.h"

HWY_BEFORE_NAMESPACE();
namespace facet::cpu::HWY_NAMESPACE {
namespace {

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

template <int R, int T>
HWY_INLINE void clear(V (&sum)[R][T]) {
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) sum[r][t] = zero();
  }
}

/// v, computed here and kept. Left alone, GCC loads x anew for each multiply-add that it enters,
/// and puts the multiply-adds of one sum together, which leaves no registers for the others.
HWY_INLINE V in_register(V v) {
#if HWY_ARCH_X86
  asm("" : "+v"(v.raw));
#else
  asm("" : "+w"(v.raw));
#endif
  return v;
}

/// What the products of a tile work on: R weight rows and T tokens, from the block's first column
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
    V w[R];
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) w[r] = codes[r].next(i);
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) {
      V x = hn::Load(D(), in.x[t] + (v + i) * kLanes);
      if constexpr (R > 1) x = in_register(x);
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        sum[r][t] = hn::MulAdd(w[r], x, sum[r][t]);
        if constexpr (R > 1) sum[r][t] = in_register(sum[r][t]);
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
    for (int t = 0; t < T; ++t) acc[r][t] = hn::MulAdd(sum[r][t], scale, acc[r][t]);
  }
}

template <class Format, int R, int T>
HWY_INLINE void load_codes(const Operands<Format, R, T>& in,
                           int64_t v,
                           int64_t count,
                           typename Format::Codes (&codes)[R]) {
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
    codes[r].load(in.codes[r] + Format::offset(v * kLanes), count - v * kLanes);
  }
}

/// acc[r][t] += the products of a block of `count` columns.
template <class Format, int R, int T>
HWY_INLINE void add_block(const Operands<Format, R, T>& in, int64_t count, V (&acc)[R][T]) {
  const int64_t vectors = vectors_of<Format>(count);
  constexpr int64_t kVectors = Format::kChunkVectors;
  typename Format::Codes codes[R];
  if constexpr (!Format::kScaled) {
    for (int64_t v = 0; v < vectors; v += kVectors) {
      load_codes(in, v, count, codes);
      add_vectors(codes, in, v, 0, kVectors, acc);
    }
  } else {
    constexpr int64_t kGroup = Format::kGroupVectors;
    V sum[R][T];
    for (int64_t v = 0; v < vectors; v += std::max(kVectors, kGroup)) {
      if constexpr (kGroup > kVectors) clear(sum);
      for (int64_t c = v; c < std::min(v + std::max(kVectors, kGroup), vectors); c += kVectors) {
        load_codes(in, c, count, codes);
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
      // Rows that are read side by side are too short for the processor's own prefetching. With one
      // token they are fetched two tiles ahead: about half a microsecond, as long as a read waits
      // for its turn.
      constexpr int kAhead = T <= 4 ? 2 * R : R;
      for (int64_t i = 0; i < Format::offset(kBlockCols); i += 64) {
        __builtin_prefetch(codes + kAhead * Format::offset(w.cols) + i, 0, T <= 4 ? 2 : 3);
      }
      if constexpr (T > 1 && T <= 4) {
        for (int64_t i = 0; i < Format::offset(kBlockCols); i += 64) {
          __builtin_prefetch(codes + Format::offset(kBlockCols) + i, 0, 3);
        }
      }
      __builtin_prefetch(Format::Scales::at(w, row + r + kAhead, begin), 0, 2);
    }
  }
#pragma GCC unroll 8
  for (int t = 0; t < T; ++t) in.x[t] = args.x[static_cast<size_t>(t)] + begin;
  add_block(in, count, acc);
}

/// out[t][row + r] = the sum of acc[r][t] times the row's factor.
template <class Format, int R, int T>
HWY_INLINE void finish(const LinearArgs& args, int64_t row, const V (&acc)[R][T]) {
  float factors[R];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) factors[r] = Format::factor(*args.w, row + r);
  constexpr int kFours = R * T / 4 * 4;
#pragma GCC unroll 8
  for (int i = 0; i < kFours; i += 4) {
    V four[4];
    float factor[4];
    float sums[4];
#pragma GCC unroll 4
    for (int k = 0; k < 4; ++k) {
      four[k] = acc[(i + k) % R][(i + k) / R];
      factor[k] = factors[(i + k) % R];
    }
    sums_of(four, factor, sums);
#pragma GCC unroll 4
    for (int k = 0; k < 4; ++k) {
      args.out[static_cast<size_t>((i + k) / R)][row + (i + k) % R] = sums[k];
    }
  }
#pragma GCC unroll 4
  for (int i = kFours; i < R * T; ++i) {
    args.out[static_cast<size_t>(i / R)][row + i % R] = sum_of(acc[i % R][i / R]) * factors[i % R];
  }
}

/// Columns [begin, end) of a product; begin a multiple of kBlockCols, end too or the last.
struct Columns {
  int64_t begin = 0;
  int64_t end = 0;
  float* acc = nullptr;  // [R * T] vectors: the sums so far; null where all columns are taken
};

/// out[t][row + r] for the T tokens of args, r < R, if the columns are the last; else acc. w:
/// args.w.
template <class Format, int R, int T>
HWY_INLINE void multiply_tile(const WeightMatrix& w,
                              const LinearArgs& args,
                              int64_t row,
                              const Columns& columns) {
  V acc[R][T];
  if (columns.begin == 0) {
    clear(acc);
  } else {
#pragma GCC unroll 32
    for (int i = 0; i < R * T; ++i) acc[i % R][i / R] = hn::Load(D(), columns.acc + i * kLanes);
  }
  int64_t begin = columns.begin;
  for (; begin + kBlockCols <= columns.end; begin += kBlockCols) {
    add_columns<Format>(w, args, row, begin, kBlockCols, acc);
  }
  if (begin < columns.end) add_columns<Format>(w, args, row, begin, columns.end - begin, acc);
  if (columns.acc == nullptr || columns.end == w.cols) {
    finish<Format>(args, row, acc);
  } else {
#pragma GCC unroll 32
    for (int i = 0; i < R * T; ++i) hn::Store(acc[i % R][i / R], D(), columns.acc + i * kLanes);
  }
}

/// The rows of args with its T tokens, R rows at a time. columns.acc: [rows][T] vectors.
template <class Format, int R, int T>
HWY_NOINLINE void multiply_rows(const LinearArgs& args, Columns columns) {
  const WeightMatrix w = *args.w;  // a copy of ours: its fields stay in registers
  int64_t row = args.row_begin;
  for (; row + R <= args.row_end; row += R) {
    multiply_tile<Format, R, T>(w, args, row, columns);
    if (columns.acc != nullptr) columns.acc += int64_t{R} * T * kLanes;
  }
  if constexpr (R > 1) {
    if (row < args.row_end) {
      multiply_rows<Format, 1, T>({args.w, row, args.row_end, args.x, args.out}, columns);
    }
  }
}

}  // namespace
}  // namespace facet::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
