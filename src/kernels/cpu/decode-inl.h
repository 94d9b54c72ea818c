// Weight codes to floats, for the instruction set being compiled. Re-included for each (see
// foreach_target.h). One weight times its scales and 1 is what dequantize_row gives, bit for bit
// (codes that mean NaN apart).

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "quant/float_formats.h"
#include "quant/fp8.h"
#include "quant/weight_matrix.h"

#if defined(FACET_CPU_DECODE_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef FACET_CPU_DECODE_INL_H
#undef FACET_CPU_DECODE_INL_H
#else
#define FACET_CPU_DECODE_INL_H
#endif

#include "kernels/cpu/vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace facet::cpu::HWY_NAMESPACE {

/// Products look up scales for kBlockCols columns at a time; plain codes become floats four vectors
/// at a time.
inline constexpr int64_t kBlockCols = 256;
inline constexpr int64_t kBlockVectors = kBlockCols / kLanes;
inline constexpr int64_t kChunk = 4 * kLanes;
static_assert(kBlockCols % kChunk == 0 && kBlockCols % kFp8Block == 0);

/// On NEON made with all its vectors at once: GCC compiles an implicit constructor for its default
/// target, not this namespace's, and then cannot inline the vectors' own constructors into it.
struct Chunk {
  V v[4];
};

using DU8 = hn::Repartition<uint8_t, D>;    // kChunk bytes
using DU16 = hn::Repartition<uint16_t, D>;  // half a chunk
using DU32 = hn::Repartition<uint32_t, D>;
using HalfU8 = hn::Rebind<uint8_t, DU16>;  // kChunk / 2 bytes
using HalfU16 = hn::Rebind<uint16_t, D>;   // kLanes halves of a float
using QuarterU8 = hn::Rebind<uint8_t, D>;  // kLanes bytes

HWY_INLINE const uint8_t* bytes_of(const std::byte* p) {
  return reinterpret_cast<const uint8_t*>(p);
}

// ---- 32-bit and 16-bit values ----

HWY_INLINE V load_f32(const uint8_t* p) { return hn::BitCast(D(), hn::LoadU(DU8(), p)); }

HWY_INLINE V bf16_to_float(hn::Vec<HalfU16> bits) {
  return hn::BitCast(D(), hn::ShiftLeft<16>(hn::PromoteTo(DU32(), bits)));
}

HWY_INLINE V load_bf16(const uint8_t* p) {
  const hn::Repartition<uint8_t, HalfU16> d8;
  return bf16_to_float(hn::BitCast(HalfU16(), hn::LoadU(d8, p)));
}

HWY_INLINE V load_f16(const uint8_t* p) {
  const hn::Repartition<uint8_t, HalfU16> d8;
  const hn::Rebind<hwy::float16_t, D> d16;
  return hn::PromoteTo(D(), hn::BitCast(d16, hn::LoadU(d8, p)));
}

// ---- E4M3 ----

#if HWY_TARGET == HWY_SSE4
/// What load_fp8 leaves to be multiplied.
inline constexpr float kFp8Factor = 1.0F;

/// kLanes E4M3 codes. The exponent field is moved into place and the difference of the biases
/// multiplied on, which also makes subnormals right.
HWY_INLINE V load_fp8(const uint8_t* p) {
  const hn::Repartition<int32_t, D> d32;
  const hn::Rebind<int8_t, D> d8;
  const auto wide = hn::PromoteTo(d32, hn::BitCast(d8, hn::LoadU(QuarterU8(), p)));
  const auto bits =
      hn::And(hn::BitCast(DU32(), hn::ShiftLeft<20>(wide)), hn::Set(DU32(), 0x87f00000u));
  return hn::Mul(hn::BitCast(D(), bits), set(0x1p120F));
}

HWY_INLINE Chunk load_fp8_chunk(const uint8_t* p) {
  return {{load_fp8(p), load_fp8(p + kLanes), load_fp8(p + 2 * kLanes), load_fp8(p + 3 * kLanes)}};
}
#else
/// What load_fp8 leaves to be multiplied: biases 15 and 7.
inline constexpr float kFp8Factor = 256.0F;

/// E4M3 codes as the half-precision numbers that are 2^-8 of them: sign to bit 15, the rest to bits
/// 13..7. The processor's own conversion takes care of subnormals.
template <class D16>
HWY_INLINE hn::Vec<D16> fp8_to_f16(D16 d16, hn::Vec<hn::Rebind<uint8_t, D16> > codes) {
  const hn::Rebind<int8_t, D16> d8;
  const hn::RebindToSigned<D16> di16;
  const auto wide = hn::BitCast(d16, hn::PromoteTo(di16, hn::BitCast(d8, codes)));
  return hn::And(hn::ShiftLeft<7>(wide), hn::Set(d16, uint16_t{0xbf80}));
}

HWY_INLINE V f16_to_float(hn::Vec<HalfU16> bits) {
  return hn::PromoteTo(D(), hn::BitCast(hn::Rebind<hwy::float16_t, D>(), bits));
}

HWY_INLINE V fp8_to_float(hn::Vec<QuarterU8> codes) {
  return f16_to_float(fp8_to_f16(HalfU16(), codes));
}

HWY_INLINE V load_fp8(const uint8_t* p) { return fp8_to_float(hn::LoadU(QuarterU8(), p)); }

HWY_INLINE Chunk load_fp8_chunk(const uint8_t* p) {
  const auto a = fp8_to_f16(DU16(), hn::LoadU(HalfU8(), p));
  const auto b = fp8_to_f16(DU16(), hn::LoadU(HalfU8(), p + kChunk / 2));
  const HalfU16 half;
  return {{f16_to_float(hn::LowerHalf(half, a)), f16_to_float(hn::UpperHalf(half, a)),
           f16_to_float(hn::LowerHalf(half, b)), f16_to_float(hn::UpperHalf(half, b))}};
}
#endif

/// read_float of w.scales, without a call for the usual types.
inline float read_scale(const WeightMatrix& w, int64_t index) {
  if (w.scale_dtype == DType::kBF16) {
    uint16_t bits = 0;
    std::memcpy(&bits, w.scales + 2 * index, sizeof(bits));
    return facet::bf16_to_float(bits);
  }
  return read_float(w.scales, w.scale_dtype, index);
}

// ---- one struct per format ----
//
// A product of one weight row with one row of x is
//   factor * sum over lanes of  sum over groups of  scale[group] * (sum over the group's vectors of
//   code vector * x vector)
// with one fused multiply-add each, in this order.
//
//   Codes          kChunkVectors vectors of codes: load(p, columns), then next(0), next(1), … in
//                  order; columns: of the row from p on
//   kPartialLoads  whether `load` reads nothing beyond `columns`, giving zero codes there
//   kGroupVectors  vectors in a group; divides kBlockVectors; a multiple of kChunkVectors or
//                  divides it
//   kScaled        whether groups have scales; else a row is one group, of scale 1
//   Scales         those of a block: prepare(w, row, begin, count) for the columns [begin, begin +
//                  count), begin a multiple of kBlockCols, those beyond being zero; group(g) is
//                  the vector of group g's; at(w, row, begin) is where they lie
//   offset         of a column in a row's codes, in bytes
//   factor         of a row
//   direct_rows    (tokens) weight rows that the direct form takes at a time

/// A format without scales, or with one for the row.
struct Unscaled {
  static constexpr bool kPartialLoads = false;
  static constexpr int64_t kChunkVectors = 4;
  static constexpr int64_t kGroupVectors = kBlockVectors;
  static constexpr bool kScaled = false;
  struct Scales {
    HWY_INLINE void prepare(const WeightMatrix& /*w*/,
                            int64_t /*row*/,
                            int64_t /*begin*/,
                            int64_t /*count*/) {}
    HWY_INLINE V group(int64_t /*g*/) const { return set(1.0F); }
    static const uint8_t* at(const WeightMatrix& w, int64_t /*row*/, int64_t /*begin*/) {
      return bytes_of(w.scales);
    }
  };
  static float factor(const WeightMatrix& /*w*/, int64_t /*row*/) { return 1.0F; }
  static constexpr int direct_rows(int tokens) {
#if HWY_TARGET == HWY_AVX3
    return tokens == 1 ? 1 : 4;
#else
    return tokens == 1 ? 1 : 2;
#endif
  }
};

/// kChunk codes of a format as they stand in memory.
template <Chunk (*Load)(const uint8_t*)>
struct ChunkCodes {
  HWY_INLINE ChunkCodes() : chunk{{zero(), zero(), zero(), zero()}} {}
  HWY_INLINE void load(const uint8_t* p, int64_t /*columns*/) { chunk = Load(p); }
  HWY_INLINE V next(int64_t i) const { return chunk.v[i]; }
  Chunk chunk;
};

/// The same one vector at a time: a tile of many rows has no registers for whole chunks.
template <V (*Load)(const uint8_t*), int64_t Bytes>
struct VectorCodes {
  HWY_INLINE void load(const uint8_t* p, int64_t /*columns*/) { codes = p; }
  HWY_INLINE V next(int64_t i) const { return Load(codes + i * kLanes * Bytes); }
  const uint8_t* codes = nullptr;
};

struct F32Format : Unscaled {
  using Codes = VectorCodes<load_f32, 4>;
  static constexpr int64_t offset(int64_t column) { return 4 * column; }
};

struct BF16Format : Unscaled {
  using Codes = VectorCodes<load_bf16, 2>;
  static constexpr int64_t offset(int64_t column) { return 2 * column; }
};

struct F16Format : Unscaled {
  using Codes = VectorCodes<load_f16, 2>;
  static constexpr int64_t offset(int64_t column) { return 2 * column; }
};

struct Fp8Format : Unscaled {
  static constexpr int direct_rows(int /*tokens*/) { return 2; }
  using Codes = ChunkCodes<load_fp8_chunk>;
  static constexpr int64_t offset(int64_t column) { return column; }
  static float factor(const WeightMatrix& w, int64_t row) {
    return read_scale(w, w.scale_rows == 1 ? 0 : row) * kFp8Factor;
  }
};

struct Fp8BlockFormat : Fp8Format {
  static constexpr int64_t kGroupVectors = kFp8Block / kLanes;
  static constexpr bool kScaled = true;
  struct Scales {
    HWY_INLINE void prepare(const WeightMatrix& w, int64_t row, int64_t begin, int64_t count) {
      const int64_t per_row = (w.cols + kFp8Block - 1) / kFp8Block;
      const int64_t first = row / kFp8Block * per_row + begin / kFp8Block;
      for (int64_t i = 0; i < kBlockCols / kFp8Block; ++i) {
        s[i] = i * kFp8Block < count ? read_scale(w, first + i) * kFp8Factor : 0.0F;
      }
    }
    HWY_INLINE V group(int64_t g) const { return set(s[g]); }
    static const uint8_t* at(const WeightMatrix& w, int64_t row, int64_t begin) {
      const int64_t per_row = (w.cols + kFp8Block - 1) / kFp8Block;
      const int64_t index = row / kFp8Block * per_row + begin / kFp8Block;
      return bytes_of(w.scales) + index * bits_of(w.scale_dtype) / 8;
    }
    float s[kBlockCols / kFp8Block];
  };
  static float factor(const WeightMatrix& /*w*/, int64_t /*row*/) { return 1.0F; }
};

HWY_INLINE V load_int8(const uint8_t* p) {
  const hn::Repartition<int32_t, D> d32;
  const hn::Rebind<int8_t, D> d8;
  return hn::ConvertTo(D(), hn::PromoteTo(d32, hn::BitCast(d8, hn::LoadU(QuarterU8(), p))));
}

/// Groups of kGroupCols columns; the last of a row may be short.
struct Int8Format : Unscaled {
  static constexpr int64_t kGroupCols = 64;
  static constexpr int64_t kGroupVectors = kGroupCols / kLanes;
  static constexpr bool kScaled = true;
  static constexpr int direct_rows(int tokens) { return tokens == 1 ? 1 : 2; }
  using Codes = VectorCodes<load_int8, 1>;
  struct Scales {
    HWY_INLINE void prepare(const WeightMatrix& w, int64_t row, int64_t begin, int64_t count) {
      const int64_t per_row = (w.cols + kGroupCols - 1) / kGroupCols;
      const int64_t first = row * per_row + begin / kGroupCols;
      for (int64_t i = 0; i < kBlockCols / kGroupCols; ++i) {
        s[i] = i * kGroupCols < count ? read_scale(w, first + i) : 0.0F;
      }
    }
    HWY_INLINE V group(int64_t g) const { return set(s[g]); }
    static const uint8_t* at(const WeightMatrix& w, int64_t row, int64_t begin) {
      const int64_t per_row = (w.cols + kGroupCols - 1) / kGroupCols;
      const int64_t index = row * per_row + begin / kGroupCols;
      return bytes_of(w.scales) + index * bits_of(w.scale_dtype) / 8;
    }
    float s[kBlockCols / kGroupCols];
  };
  static constexpr int64_t offset(int64_t column) { return column; }
};

}  // namespace facet::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
