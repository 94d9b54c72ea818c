// Weight codes to floats, for the instruction set being compiled. Re-included for each (see
// foreach_target.h). Every product is the one that dequantize_row makes, so the values are the same
// bits (codes that mean NaN apart).

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

/// Decoders work on four vectors at a time, and look up scales for kBlockCols columns at a time.
inline constexpr int64_t kChunk = 4 * kLanes;
inline constexpr int64_t kBlockCols = 256;
inline constexpr int64_t kScaleCols = 16;  // columns under one entry of BlockScales (4-bit formats)
static_assert(kBlockCols % kChunk == 0 && kFp8Block % kChunk == 0);

/// Scales of one weight row for the columns of one block. FP8: [0] and [1] for each 128 columns;
/// 4-bit formats: one per 16 columns.
struct BlockScales {
  float s[kBlockCols / kScaleCols];
};

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

// ---- 16-bit values ----

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

HWY_INLINE V load_fp8(const uint8_t* p) {
  return f16_to_float(fp8_to_f16(HalfU16(), hn::LoadU(QuarterU8(), p)));
}

HWY_INLINE Chunk load_fp8_chunk(const uint8_t* p) {
  const auto a = fp8_to_f16(DU16(), hn::LoadU(HalfU8(), p));
  const auto b = fp8_to_f16(DU16(), hn::LoadU(HalfU8(), p + kChunk / 2));
  const HalfU16 half;
  return {{f16_to_float(hn::LowerHalf(half, a)), f16_to_float(hn::UpperHalf(half, a)),
           f16_to_float(hn::LowerHalf(half, b)), f16_to_float(hn::UpperHalf(half, b))}};
}
#endif

// ---- 4-bit codes ----

/// The values of the 16 codes.
struct NibbleTable {
  float value[16];
  uint8_t low[16];   // of their BF16 bits
  uint8_t high[16];  // of their BF16 bits
};

#if HWY_TARGET == HWY_AVX3
/// kChunk codes, low nibble first, to their values: each vector's 16 codes move to the low bits of
/// its 16 lanes, which select from the table.
HWY_INLINE Chunk load_nibbles(const uint8_t* p, const NibbleTable& table) {
  alignas(64) static constexpr uint32_t kWord[16] = {0, 0, 0, 0, 0, 0, 0, 0,
                                                     1, 1, 1, 1, 1, 1, 1, 1};
  alignas(64) static constexpr uint32_t kShift[16] = {0, 4, 8, 12, 16, 20, 24, 28,
                                                      0, 4, 8, 12, 16, 20, 24, 28};
  const hn::Repartition<uint64_t, D> d64;
  const auto words = hn::IndicesFromVec(DU32(), hn::Load(DU32(), kWord));
  const auto shifts = hn::Load(DU32(), kShift);
  const V values = load(table.value);
  Chunk c;
#pragma GCC unroll 8
  for (int64_t i = 0; i < 4; ++i) {
    uint64_t codes = 0;
    std::memcpy(&codes, p + 8 * i, sizeof(codes));
    const auto both = hn::BitCast(DU32(), hn::Set(d64, codes));
    const auto lanes = hn::Shr(hn::TableLookupLanes(both, words), shifts);
    // Of an index the instruction reads the low four bits.
    c.v[i] = hn::TableLookupLanes(values, hn::IndicesFromVec(D(), lanes));
  }
  return c;
}
#else
/// kChunk codes, low nibble first, each in the low half of a 16-bit pair; in the order that
/// load_nibbles' interleaving turns into ascending columns.
HWY_INLINE hn::Vec<DU16> spread_bytes(const uint8_t* p) {
#if HWY_TARGET == HWY_AVX2
  // Interleaving works within halves of a vector, so each half gets the columns that belong there:
  // 0-3, 8-11, 16-19, 24-27 and 4-7, 12-15, 20-23, 28-31, two a byte. 128 and above give zero.
  HWY_ALIGN static constexpr uint8_t kPlace[32] = {
      0, 255, 1, 255, 4, 255, 5, 255, 8,  255, 9,  255, 12, 255, 13, 255,
      2, 255, 3, 255, 6, 255, 7, 255, 10, 255, 11, 255, 14, 255, 15, 255};
  return hn::BitCast(DU16(),
                     hn::TableLookupBytesOr0(hn::LoadDup128(DU8(), p), hn::Load(DU8(), kPlace)));
#else
  return hn::PromoteTo(DU16(), hn::LoadU(HalfU8(), p));
#endif
}

/// kChunk codes, low nibble first, to their values: by way of the two bytes of their BF16 bits,
/// which are the upper half of a float.
HWY_INLINE Chunk load_nibbles(const uint8_t* p, const NibbleTable& table) {
  const auto pairs = spread_bytes(p);
  const auto codes = hn::BitCast(
      DU8(), hn::And(hn::Or(pairs, hn::ShiftLeft<4>(pairs)), hn::Set(DU16(), uint16_t{0x0f0f})));
  const auto low = hn::TableLookupBytes(hn::LoadDup128(DU8(), table.low), codes);
  const auto high = hn::TableLookupBytes(hn::LoadDup128(DU8(), table.high), codes);
  const auto a = hn::ZipLower(DU16(), low, high);
  const auto b = hn::ZipUpper(DU16(), low, high);
  const auto zeros = hn::Zero(DU16());
  return {{hn::BitCast(D(), hn::ZipLower(DU32(), zeros, a)),
           hn::BitCast(D(), hn::ZipUpper(DU32(), zeros, a)),
           hn::BitCast(D(), hn::ZipLower(DU32(), zeros, b)),
           hn::BitCast(D(), hn::ZipUpper(DU32(), zeros, b))}};
}
#endif

/// c.v[i] *= the scale of its 16 columns; `column` is that of c.v[0] within the block.
HWY_INLINE Chunk times_scales(Chunk c, const BlockScales& scales, int64_t column) {
  const float* s = scales.s + static_cast<uint64_t>(column) / kScaleCols;
#pragma GCC unroll 8
  for (int64_t i = 0; i < 4; ++i) {
    c.v[i] = hn::Mul(c.v[i], set(s[i * kLanes / kScaleCols]));
  }
  return c;
}

// ---- one struct per format ----
//   prepare  fills `scales` for the columns from `begin`, a multiple of kBlockCols, on
//   offset   of a column in a row's codes, in bytes; column a multiple of kChunk
//   chunk    kChunk weights from p on; `column` counts from the block's begin

/// A format of plain values.
struct Unscaled {
  static void prepare(const WeightMatrix& /*w*/,
                      int64_t /*row*/,
                      int64_t /*begin*/,
                      int64_t /*count*/,
                      BlockScales& /*scales*/) {}
};

/// read_float of w.scales, without a call for the usual types.
inline float read_scale(const WeightMatrix& w, int64_t index) {
  if (w.scale_dtype == DType::kBF16) {
    uint16_t bits = 0;
    std::memcpy(&bits, w.scales + 2 * index, sizeof(bits));
    return facet::bf16_to_float(bits);
  }
  return read_float(w.scales, w.scale_dtype, index);
}

struct F32Format : Unscaled {
  static constexpr int64_t offset(int64_t column) { return 4 * column; }
  static HWY_INLINE Chunk chunk(const uint8_t* p, const BlockScales& /*s*/, int64_t /*column*/) {
    Chunk c;
#pragma GCC unroll 8
    for (int64_t i = 0; i < 4; ++i) {
      c.v[i] = hn::BitCast(D(), hn::LoadU(DU8(), p + 4 * kLanes * i));
    }
    return c;
  }
};

struct BF16Format : Unscaled {
  static constexpr int64_t offset(int64_t column) { return 2 * column; }
  static HWY_INLINE Chunk chunk(const uint8_t* p, const BlockScales& /*s*/, int64_t /*column*/) {
    return {{load_bf16(p), load_bf16(p + 2 * kLanes), load_bf16(p + 4 * kLanes),
             load_bf16(p + 6 * kLanes)}};
  }
};

struct F16Format : Unscaled {
  static constexpr int64_t offset(int64_t column) { return 2 * column; }
  static HWY_INLINE Chunk chunk(const uint8_t* p, const BlockScales& /*s*/, int64_t /*column*/) {
    return {{load_f16(p), load_f16(p + 2 * kLanes), load_f16(p + 4 * kLanes),
             load_f16(p + 6 * kLanes)}};
  }
};

/// kFp8 and kFp8Block.
struct Fp8Format {
  static void prepare(
      const WeightMatrix& w, int64_t row, int64_t begin, int64_t /*count*/, BlockScales& scales) {
    if (w.format == WeightFormat::kFp8) {
      if (begin > 0) return;  // one scale for the whole row
      scales.s[0] = read_scale(w, w.scale_rows == 1 ? 0 : row) * kFp8Factor;
      scales.s[1] = scales.s[0];
      return;
    }
    const int64_t per_row = (w.cols + kFp8Block - 1) / kFp8Block;
    const int64_t first = begin / kFp8Block;
    for (int64_t i = 0; i < 2 && first + i < per_row; ++i) {
      scales.s[i] = read_scale(w, row / kFp8Block * per_row + first + i) * kFp8Factor;
    }
  }
  static constexpr int64_t offset(int64_t column) { return column; }
  static HWY_INLINE Chunk chunk(const uint8_t* p, const BlockScales& scales, int64_t column) {
    Chunk c = load_fp8_chunk(p);
    const V scale = set(scales.s[static_cast<uint64_t>(column) / kFp8Block]);
#pragma GCC unroll 8
    for (int64_t i = 0; i < 4; ++i) c.v[i] = hn::Mul(c.v[i], scale);
    return c;
  }
};

struct Nvfp4Format {
  static constexpr NibbleTable kTable = {
      {0.0F, 0.5F, 1.0F, 1.5F, 2.0F, 3.0F, 4.0F, 6.0F, -0.0F, -0.5F, -1.0F, -1.5F, -2.0F, -3.0F,
       -4.0F, -6.0F},
      {0, 0, 0x80, 0xc0, 0, 0x40, 0x80, 0xc0, 0, 0, 0x80, 0xc0, 0, 0x40, 0x80, 0xc0},
      {0, 0x3f, 0x3f, 0x3f, 0x40, 0x40, 0x40, 0x40, 0x80, 0xbf, 0xbf, 0xbf, 0xc0, 0xc0, 0xc0,
       0xc0}};

  static void prepare(
      const WeightMatrix& w, int64_t row, int64_t begin, int64_t count, BlockScales& scales) {
    const uint8_t* p = bytes_of(w.scales) + (row * w.cols + begin) / kScaleCols;
    if (count == kBlockCols) {
      for (int64_t i = 0; i < kBlockCols / kScaleCols; i += kLanes) {
        store(hn::Mul(load_fp8(p + i), set(kFp8Factor * w.global_scale)), scales.s + i);
      }
      return;
    }
    const std::array<float, 256>& e4m3 = e4m3_table();
    for (int64_t i = 0; i < count / kScaleCols; ++i) scales.s[i] = e4m3[p[i]] * w.global_scale;
  }
  static constexpr int64_t offset(int64_t column) { return column / 2; }
  static HWY_INLINE Chunk chunk(const uint8_t* p, const BlockScales& scales, int64_t column) {
    return times_scales(load_nibbles(p, kTable), scales, column);
  }
};

/// Groups of a multiple of 16 columns.
struct Int4Format {
  static constexpr NibbleTable kTable = {
      {-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7},
      {0, 0xe0, 0xc0, 0xa0, 0x80, 0x40, 0, 0x80, 0, 0x80, 0, 0x40, 0x80, 0xa0, 0xc0, 0xe0},
      {0xc1, 0xc0, 0xc0, 0xc0, 0xc0, 0xc0, 0xc0, 0xbf, 0, 0x3f, 0x40, 0x40, 0x40, 0x40, 0x40,
       0x40}};

  static void prepare(
      const WeightMatrix& w, int64_t row, int64_t begin, int64_t count, BlockScales& scales) {
    // Rows are whole groups, so groups can be counted through all of them.
    const auto size = static_cast<uint64_t>(w.group_size);
    const auto first = static_cast<uint64_t>(row * w.cols + begin);
    auto group = static_cast<int64_t>(first / size);
    auto end = static_cast<int64_t>(size - first % size);
    for (int64_t c = 0; c < count; ++group, end += w.group_size) {
      const float scale = read_scale(w, group);
      for (; c < std::min(count, end); c += kScaleCols) scales.s[c / kScaleCols] = scale;
    }
  }
  static constexpr int64_t offset(int64_t column) { return column / 2; }
  static HWY_INLINE Chunk chunk(const uint8_t* p, const BlockScales& scales, int64_t column) {
    return times_scales(load_nibbles(p, kTable), scales, column);
  }
};

/// Groups of a multiple of 16 columns; the last of a row may be short.
struct Int8Format {
  static void prepare(
      const WeightMatrix& w, int64_t row, int64_t begin, int64_t count, BlockScales& scales) {
    const int64_t per_row = (w.cols + w.group_size - 1) / w.group_size;
    int64_t group = begin / w.group_size;
    int64_t end = (group + 1) * w.group_size - begin;
    for (int64_t c = 0; c < count; ++group, end += w.group_size) {
      const float scale = read_scale(w, row * per_row + group);
      for (; c < std::min(count, end); c += kScaleCols) scales.s[c / kScaleCols] = scale;
    }
  }
  static constexpr int64_t offset(int64_t column) { return column; }
  static HWY_INLINE Chunk chunk(const uint8_t* p, const BlockScales& scales, int64_t column) {
    const hn::Repartition<int32_t, D> d32;
    const hn::Rebind<int8_t, D> d8;
    Chunk c;
#pragma GCC unroll 8
    for (int64_t i = 0; i < 4; ++i) {
      const auto codes = hn::BitCast(d8, hn::LoadU(QuarterU8(), p + i * kLanes));
      c.v[i] = hn::ConvertTo(D(), hn::PromoteTo(d32, codes));
    }
    return times_scales(c, scales, column);
  }
};

}  // namespace facet::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
