#pragma once

// How the formats give weights to tensor cores. A product walks along K in steps of 64 columns; a
// band is 16 rows. A band's step lies in shared memory as the lanes of a warp read it, and turns
// into two fragments of 32 columns, two mma each.
//
// Which of the 64 columns stand in which place of an mma does not matter as long as x stands in the
// same order, so each format takes the order in which its bytes decode without moving anything
// between lanes, and x is rounded to BF16 straight into that order (pack8, place). Lane 4g + i
// holds for rows g and g + 8 of the band:
//
//   BF16   columns 8i … 8i+7 of either half of the step, as they stand
//   FP8    columns 16i … 16i+15; pairs (0,2) (1,3) of each four
//   NVFP4  columns 16i … 16i+15; pairs (0,4) (1,5) (2,6) (3,7) of each eight

#include <cstdint>

#include "kernels/cuda/bands.h"
#include "kernels/cuda/mma.cuh"
#include "quant/nvfp4_tiles.h"

namespace facet::cuda {

__host__ __device__ constexpr int chunk_begin(int steps, int chunk) {
  return steps * chunk / chunks_of(steps);
}

/// 32 columns of a band in one lane: low of row g, high of row g + 8. Words 0, 1 enter the first
/// mma, 2, 3 the second.
struct Fragment {
  uint32_t low[4];
  uint32_t high[4];
};

/// One of the 16 byte units of a band, walking along K: at step s it comes from `from` + s times
/// the format's bytes per row and step, zeros from step `end` on.
struct UnitCursor {
  const uint8_t* from;
  int end;
};

/// `somewhere`: any place that may be read.
template <int kStepBytes>
__device__ __forceinline__ void copy_unit(
    uint32_t to, const UnitCursor& unit, int step, const uint8_t* somewhere, uint64_t policy) {
  const bool valid = step < unit.end;
  copy_async_once(to, valid ? unit.from + step * kStepBytes : somewhere, valid, policy);
}
template <int kStepBytes>
__device__ __forceinline__ void copy_unit(
    uint32_t to, const UnitCursor& unit, int step, const BandSource& w, uint64_t policy) {
  copy_unit<kStepBytes>(to, unit, step, w.lower, policy);
}

/// A lane's unit of row-major rows: `offset` bytes into the row's first step.
template <int kStepBytes>
__device__ __forceinline__ UnitCursor
row_unit(const BandSource& w, int band, int half, int lane, int offset) {
  const int row = band * w.band_rows + lane / 4;
  const uint8_t* from = half ? w.upper : w.lower;
  const bool valid = band < w.bands && row < (half ? w.upper_rows : w.lower_rows);
  const int left = static_cast<int>(w.pitch) - offset;
  return {from + row * w.pitch + offset, valid ? (left + kStepBytes - 1) / kStepBytes : 0};
}

__device__ __forceinline__ void add_products(float (&c)[4], const Fragment& a, const uint4& b) {
  mma(c, a.low[0], a.high[0], a.low[1], a.high[1], b.x, b.y);
  mma(c, a.low[2], a.high[2], a.low[3], a.high[3], b.z, b.w);
}

struct Bf16Steps {
  static constexpr int kBandBytes = 2048;
  static constexpr int kUnits = kBandBytes / 16;

  static constexpr int kStepBytes = 128;  ///< from one step of a unit to the next

  /// Unit u of a band's step, which goes to 16 * u.
  __device__ __forceinline__ static UnitCursor unit(const BandSource& w, int band, int u) {
    return row_unit<kStepBytes>(w, band, u / 64, u % 32, u / 32 % 2 * 64 + u % 4 * 16);
  }
  __device__ __forceinline__ static void fragments(const uint8_t* band_at,
                                                   int lane,
                                                   Fragment (&f)[2]) {
#pragma unroll
    for (int p = 0; p < 2; ++p) {
      const uint4 low = load_shared(band_at + p * 512 + lane * 16);
      const uint4 high = load_shared(band_at + 1024 + p * 512 + lane * 16);
      f[p] = {{low.x, low.y, low.z, low.w}, {high.x, high.y, high.z, high.w}};
    }
  }
  __device__ __forceinline__ static uint4 pack8(const float (&v)[8]) {
    return {pack_bf16(v[0], v[1]), pack_bf16(v[2], v[3]), pack_bf16(v[4], v[5]),
            pack_bf16(v[6], v[7])};
  }
  /// Where columns 8 * eight … 8 * eight + 7 stand, in eights.
  __host__ __device__ static constexpr int place(int eight) { return eight; }
  /// Where column k stands among its eight.
  __host__ __device__ static constexpr int within(int k) { return k; }
};

/// The place of eights where a lane's 16 columns are neighbours.
__host__ __device__ constexpr int place_of_sixteen(int eight) {
  return eight / 8 * 8 + eight % 2 * 4 + eight % 8 / 2;
}

struct Fp8Steps {
  static constexpr int kBandBytes = 1024;
  static constexpr int kUnits = kBandBytes / 16;

  static constexpr int kStepBytes = 64;

  __device__ __forceinline__ static UnitCursor unit(const BandSource& w, int band, int u) {
    return row_unit<kStepBytes>(w, band, u / 32, u % 32, u % 4 * 16);
  }
  /// Four E4M3 as (0,2) and (1,3): moved to a BF16's exponent and mantissa they are the value times
  /// 2^-120, subnormals included; the product with 2^120 is exact.
  __device__ __forceinline__ static void decode(uint32_t word, uint32_t& even, uint32_t& odd) {
    constexpr uint32_t kGain = 0x7b807b80u;
    even = multiply_bf16(((word << 4) & 0x07f007f0u) | ((word << 8) & 0x80008000u), kGain);
    odd = multiply_bf16(((word >> 4) & 0x07f007f0u) | (word & 0x80008000u), kGain);
  }
  __device__ __forceinline__ static void fragments(const uint8_t* band_at,
                                                   int lane,
                                                   Fragment (&f)[2]) {
    const uint4 low = load_shared(band_at + lane * 16);
    const uint4 high = load_shared(band_at + 512 + lane * 16);
    decode(low.x, f[0].low[0], f[0].low[1]);
    decode(low.y, f[0].low[2], f[0].low[3]);
    decode(low.z, f[1].low[0], f[1].low[1]);
    decode(low.w, f[1].low[2], f[1].low[3]);
    decode(high.x, f[0].high[0], f[0].high[1]);
    decode(high.y, f[0].high[2], f[0].high[3]);
    decode(high.z, f[1].high[0], f[1].high[1]);
    decode(high.w, f[1].high[2], f[1].high[3]);
  }
  __device__ __forceinline__ static uint4 pack8(const float (&v)[8]) {
    return {pack_bf16(v[0], v[2]), pack_bf16(v[1], v[3]), pack_bf16(v[4], v[6]),
            pack_bf16(v[5], v[7])};
  }
  __host__ __device__ static constexpr int place(int eight) { return place_of_sixteen(eight); }
  __host__ __device__ static constexpr int within(int k) {
    return k / 4 * 4 + k % 2 * 2 + k % 4 / 2;
  }
};

/// The tile form of quant/nvfp4_tiles.h. Weights come out as their value (less the global scale)
/// over kNvfp4Gain, so that the exponents of scales and codes fit BF16; every product of both is
/// exact.
struct Nvfp4Steps {
  static constexpr int kBandBytes = kTileBytes;
  static constexpr int kUnits = kBandBytes / 16;

  static constexpr int kStepBytes = kTileBytes;

  __device__ __forceinline__ static UnitCursor unit(const BandSource& w, int band, int u) {
    return {w.lower + int64_t{band} * w.steps * kTileBytes + u * 16, band < w.bands ? w.steps : 0};
  }
  /// Eight E2M1 as (0,4) (1,5) (2,6) (3,7), each times `scale`: moved to a BF16's exponent and
  /// mantissa a code is its value times 2^-126, subnormals included.
  __device__ __forceinline__ static void decode(uint32_t word, uint32_t scale, uint32_t (&out)[4]) {
    constexpr uint32_t kValue = 0x01c001c0u;
    constexpr uint32_t kSign = 0x80008000u;
    out[0] = multiply_bf16(word & (kValue | kSign), scale);
    out[1] = multiply_bf16((word << 3) & (kValue | kSign), scale);
    out[2] = multiply_bf16(((word << 6) & kValue) | ((word << 1) & kSign), scale);
    out[3] = multiply_bf16(((word >> 3) & kValue) | ((word << 2) & kSign), scale);
  }
  /// What a lane reads of a band's step.
  struct Words {
    uint4 codes;
    uint32_t scales;

    __device__ __forceinline__ void load(const uint8_t* band_at, int lane) {
      codes = load_shared(band_at + lane * 16);
      scales = *reinterpret_cast<const uint16_t*>(band_at + 512 + lane * 2);
    }
  };
  __device__ __forceinline__ static void fragments(const Words& words, Fragment (&f)[2]) {
    // The scale times 2^118, twice: its code is a BF16's exponent and mantissa less 2^-9.
    const uint32_t low = (words.scales & 0xffu) * 0x00100010u + 0x76007600u;
    const uint32_t high = (words.scales >> 8) * 0x00100010u + 0x76007600u;
    decode(words.codes.x, low, f[0].low);
    decode(words.codes.y, low, f[1].low);
    decode(words.codes.z, high, f[0].high);
    decode(words.codes.w, high, f[1].high);
  }
  __device__ __forceinline__ static void fragments(const uint8_t* band_at,
                                                   int lane,
                                                   Fragment (&f)[2]) {
    Words words;
    words.load(band_at, lane);
    fragments(words, f);
  }
  __device__ __forceinline__ static uint4 pack8(const float (&v)[8]) {
    return {pack_bf16(v[0], v[4]), pack_bf16(v[1], v[5]), pack_bf16(v[2], v[6]),
            pack_bf16(v[3], v[7])};
  }
  __host__ __device__ static constexpr int place(int eight) { return place_of_sixteen(eight); }
  __host__ __device__ static constexpr int within(int k) { return k % 4 * 2 + k / 4; }
};

/// Where column k of a token stands in the order of format F, in values.
template <class F>
__host__ __device__ constexpr int position_of(int k) {
  return F::place(k / 8) * 8 + F::within(k % 8);
}

/// Units of a band that one lane copies, in a warp that copies bands for itself.
template <class F>
struct LaneUnits {
  static constexpr int kCount = (F::kUnits + 31) / 32;
  UnitCursor units[kCount];

  __device__ __forceinline__ void seek(const BandSource& w, int band, int lane) {
#pragma unroll
    for (int i = 0; i < kCount; ++i) units[i] = F::unit(w, band, min(i * 32 + lane, F::kUnits - 1));
  }
  /// Starts the copy of a step to `band_at`.
  __device__ __forceinline__ void copy(
      uint32_t band_at, const uint8_t* somewhere, int step, int lane, uint64_t policy) const {
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      if ((i + 1) * 32 <= F::kUnits || i * 32 + lane < F::kUnits)
        copy_unit<F::kStepBytes>(band_at + (i * 32 + lane) * 16, units[i], step, somewhere, policy);
    }
  }
};

/// Adds one step of a band to the sums of 8 tokens, whose x of the step is at `x` for this lane.
template <class F>
__device__ __forceinline__ void add_step(float (&sums)[4],
                                         const uint8_t* band_at,
                                         const uint8_t* x,
                                         int lane) {
  Fragment weights[2];
  F::fragments(band_at, lane, weights);
#pragma unroll
  for (int p = 0; p < 2; ++p) add_products(sums, weights[p], load_shared(x + p * 64));
}

/// Columns 8 * eight … of a row of `cols` floats in F's order; zeros beyond its end.
template <class F>
__device__ __forceinline__ uint4 load_x8(const float* row, int eight, int cols) {
  float v[8] = {};
  if (eight * 8 < cols) {
    const float4 a = *reinterpret_cast<const float4*>(row + eight * 8);
    const float4 b = *reinterpret_cast<const float4*>(row + eight * 8 + 4);
    v[0] = a.x, v[1] = a.y, v[2] = a.z, v[3] = a.w;
    v[4] = b.x, v[5] = b.y, v[6] = b.z, v[7] = b.w;
  }
  return F::pack8(v);
}

/// to[token * pitch] … = x of `tokens` rows in F's order, by all threads of the CTA; row(token) is
/// where a token's floats begin. Several loads are under way at once.
template <class F, class Row>
__device__ __forceinline__ void stage_x(
    uint8_t* to, int pitch, int tokens, int steps, int cols, const Row& row) {
  constexpr int kAtOnce = 4;
  const int eights = steps * 8;
  for (int token = 0; token < tokens; ++token) {
    const float* from = row(token);
    for (int base = threadIdx.x; base < eights; base += kAtOnce * blockDim.x) {
      uint4 packed[kAtOnce];
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) {
        const int eight = base + i * blockDim.x;
        if (eight < eights) packed[i] = load_x8<F>(from, eight, cols);
      }
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) {
        const int eight = base + i * blockDim.x;
        if (eight < eights)
          *reinterpret_cast<uint4*>(to + token * pitch + F::place(eight) * 16) = packed[i];
      }
    }
  }
}

}  // namespace facet::cuda
