// 4-bit codes to floats, for the instruction set being compiled. Re-included for each (see
// foreach_target.h).
//
// Codes stay in the register they were loaded to and leave it by shifts and table look-ups, not in
// the order of their columns; `arrange` puts x into that order once, which is cheaper than moving
// every weight. A group of vectors shares one vector of scales, so a scale costs one multiply-add a
// group instead of one multiplication a weight:
//   sum += scale * (code[0] * x[0] + code[1] * x[1] + …), each lane for itself, in this order.

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>

#include "quant/float_formats.h"
#include "quant/weight_matrix.h"

#if defined(FACET_CPU_NIBBLES_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef FACET_CPU_NIBBLES_INL_H
#undef FACET_CPU_NIBBLES_INL_H
#else
#define FACET_CPU_NIBBLES_INL_H
#endif

#include "kernels/cpu/decode-inl.h"

HWY_BEFORE_NAMESPACE();
namespace facet::cpu::HWY_NAMESPACE {

inline constexpr int64_t kScaleCols = 16;  // columns under one scale
static_assert(kScaleCols == 1 << 4);

/// The values of the 16 codes, as the instruction sets look them up.
struct NibbleTable {
  alignas(64) uint16_t bf16[32];  // twice
  alignas(16) uint8_t low[16];    // of their BF16 bits
  alignas(16) uint8_t high[16];   // of their BF16 bits
};

/// bf16: the BF16 bits of the values.
constexpr NibbleTable nibble_table(const std::array<uint16_t, 16>& bf16) {
  NibbleTable table{};
  for (size_t i = 0; i < 16; ++i) {
    table.bf16[i] = bf16[i];
    table.bf16[i + 16] = bf16[i];
    table.low[i] = static_cast<uint8_t>(bf16[i] & 0xff);
    table.high[i] = static_cast<uint8_t>(bf16[i] >> 8);
  }
  return table;
}

// Per instruction set:
//   kNibbleGroups, kNibbleGroupVectors  a chunk of codes is so many groups of so many vectors
//   nibble_column                       the column of a lane, within the chunk
//   NibbleCodes                         a chunk of codes
//   NibbleScales                        the scales of a block

#if HWY_TARGET == HWY_AVX3
// Lane j holds the 16 codes of block j: the low eight in one register, the high eight in another.
// One look-up among 16 BF16 values serves two vectors, since it works on halves of lanes. Of an
// index it reads the low five bits, the fifth of which belongs to the next code: hence each value
// twice.
inline constexpr int64_t kNibbleGroups = 1;
inline constexpr int64_t kNibbleGroupVectors = 16;

constexpr int64_t nibble_column(int64_t vector, int64_t lane) {
  return lane * kScaleCols + vector / 8 * 8 + vector % 2 * 4 + vector / 2 % 4;
}

template <class Format>
struct NibbleCodes {
  HWY_INLINE NibbleCodes() {}  // see Chunk
  HWY_INLINE void load(const uint8_t* p, int64_t columns) {
    values = hn::Load(DU16(), Format::kTable.bf16);
    auto a = hn::Undefined(DU32());
    auto b = hn::Undefined(DU32());
    if (columns >= kBlockCols) {
      a = hn::BitCast(DU32(), hn::LoadU(DU8(), p));
      b = hn::BitCast(DU32(), hn::LoadU(DU8(), p + 64));
    } else {
      // Blocks are eight bytes. Nothing beyond the row is read.
      const auto blocks = static_cast<uint32_t>(columns / kScaleCols);
      const uint32_t mask = (1u << blocks) - 1;
      a.raw = _mm512_maskz_loadu_epi64(static_cast<__mmask8>(mask), p);
      b.raw = _mm512_maskz_loadu_epi64(static_cast<__mmask8>(mask >> 8), p + 64);
    }
    words[0] = hn::BitCast(DU16(), hn::ConcatEven(DU32(), b, a));
    words[1] = hn::BitCast(DU16(), hn::ConcatOdd(DU32(), b, a));
  }
  HWY_INLINE V next(int64_t vector) {
    if (vector % 2 == 0) {
      auto& word = words[vector / 8];
      pairs = hn::BitCast(DU32(), hn::Vec<DU16>{_mm512_permutexvar_epi16(word.raw, values.raw)});
      word = hn::ShiftRight<4>(word);
      return hn::BitCast(D(), hn::ShiftLeft<16>(pairs));
    }
    return hn::BitCast(D(), hn::And(pairs, hn::Set(DU32(), 0xffff0000u)));
  }
  hn::Vec<DU16> values;
  hn::Vec<DU16> words[2];
  hn::Vec<DU32> pairs;
};

#else
// The two bytes of a value's BF16 bits come from two tables of 16 bytes and are zipped together
// within each 128 bits; even and odd halves of 32 bits then become floats. The 16 bytes of each 128
// bits are two blocks: the lower eight are group 0, the upper eight group 1.
inline constexpr int64_t kNibbleGroups = 2;
inline constexpr int64_t kNibbleGroupVectors = 4;

constexpr int64_t nibble_column(int64_t vector, int64_t lane) {
  // Of a group, vectors 0 and 1 are of low nibbles, 2 and 3 of high ones; odd vectors of odd bytes.
  const int64_t byte = lane / 4 * 16 + vector / 4 * 8 + lane % 4 * 2 + vector % 2;
  return byte * 2 + vector % 4 / 2;
}

template <class Format>
struct NibbleCodes {
  HWY_INLINE NibbleCodes() {}  // see Chunk
  HWY_INLINE void load(const uint8_t* p, int64_t /*columns*/) {
    const NibbleTable& table = Format::kTable;
    const auto mask = hn::Set(DU8(), uint8_t{0x0f});
    const auto bytes = hn::LoadU(DU8(), p);
    const auto shifted = hn::BitCast(DU8(), hn::ShiftRight<4>(hn::BitCast(DU16(), bytes)));
    const auto low_table = hn::LoadDup128(DU8(), table.low);
    const auto high_table = hn::LoadDup128(DU8(), table.high);
    const auto first = hn::And(bytes, mask);
    const auto second = hn::And(shifted, mask);
    low[0] = hn::TableLookupBytes(low_table, first);
    high[0] = hn::TableLookupBytes(high_table, first);
    low[1] = hn::TableLookupBytes(low_table, second);
    high[1] = hn::TableLookupBytes(high_table, second);
  }
  HWY_INLINE V next(int64_t vector) {
    if (vector % 2 == 0) {
      const int64_t n = vector % 4 / 2;
      pairs = hn::BitCast(DU32(), vector < 4 ? hn::ZipLower(DU16(), low[n], high[n])
                                             : hn::ZipUpper(DU16(), low[n], high[n]));
      return hn::BitCast(D(), hn::ShiftLeft<16>(pairs));
    }
    return hn::BitCast(D(), hn::And(pairs, hn::Set(DU32(), 0xffff0000u)));
  }
  hn::Vec<DU8> low[2];
  hn::Vec<DU8> high[2];
  hn::Vec<DU32> pairs;
};

HWY_INLINE V nibble_scales(const float* s, int64_t group) {
#if HWY_TARGET == HWY_AVX2
  const hn::Half<D> half;
  s += group / 2 * 4 + group % 2;
  return hn::Combine(D(), hn::Set(half, s[2]), hn::Set(half, s[0]));
#else
  return set(s[group]);
#endif
}
#endif

inline constexpr int64_t kNibbleVectors = kNibbleGroups * kNibbleGroupVectors;
inline constexpr int64_t kNibbleCols = kNibbleVectors * kLanes;
static_assert(kBlockCols % kNibbleCols == 0);

/// out = x in the order of the codes, zeros beyond `cols`. out: [round_up(cols, kBlockCols)].
inline void arrange_nibbles(const float* x, int64_t cols, float* out) {
  for (int64_t begin = 0; begin < round_up(cols, kBlockCols); begin += kNibbleCols) {
    for (int64_t v = 0; v < kNibbleVectors; ++v, out += kLanes) {
      for (int64_t lane = 0; lane < kLanes; ++lane) {
        const int64_t c = begin + nibble_column(v, lane);
        out[lane] = c < cols ? x[c] : 0.0F;
      }
    }
  }
}

// ---- formats: see decode-inl.h ----

/// Scales of one weight row for a block, one for 16 columns.
struct NibbleScales {
#if HWY_TARGET == HWY_AVX3
  HWY_INLINE V group(int64_t /*g*/) const { return lanes; }
  HWY_INLINE void set_lanes(int64_t /*i*/, V v) { lanes = v; }
  V lanes;
#else
  HWY_INLINE V group(int64_t g) const { return nibble_scales(s, g); }
  HWY_INLINE void set_lanes(int64_t i, V v) { hn::Store(v, D(), s + i); }
  alignas(64) float s[kBlockCols / kScaleCols];
#endif
};

struct NibbleFormat {
  static constexpr bool kPartialLoads = HWY_TARGET == HWY_AVX3;
  static constexpr int64_t kChunkVectors = kNibbleVectors;
  static constexpr int64_t kGroupVectors = kNibbleGroupVectors;
  static constexpr bool kScaled = true;
  static constexpr int64_t offset(int64_t column) { return column >> 1; }
  static float factor(const WeightMatrix& /*w*/, int64_t /*row*/) { return 1.0F; }
  // Several rows at a time hide the latency of a group's sum, while their sums fit the registers.
  static constexpr int direct_rows(int tokens) {
#if HWY_TARGET == HWY_AVX3
    return tokens == 1 ? 4 : 2;
#else
    return tokens == 1 ? 2 : 1;
#endif
  }
};

struct Nvfp4Format : NibbleFormat {
  static constexpr NibbleTable kTable =
      nibble_table({0, 0x3f00, 0x3f80, 0x3fc0, 0x4000, 0x4040, 0x4080, 0x40c0, 0x8000, 0xbf00,
                    0xbf80, 0xbfc0, 0xc000, 0xc040, 0xc080, 0xc0c0});
  using Codes = NibbleCodes<Nvfp4Format>;

  struct Scales : NibbleScales {
    static const uint8_t* at(const WeightMatrix& w, int64_t row, int64_t begin) {
      return bytes_of(w.scales) + ((row * w.cols + begin) >> 4);
    }
    HWY_INLINE void prepare(const WeightMatrix& w, int64_t row, int64_t begin, int64_t count) {
      const uint8_t* p = at(w, row, begin);
#if HWY_TARGET == HWY_AVX3
      if (count == kBlockCols) {
        lanes = load_fp8(p);
      } else {
        const uint32_t mask = (1u << (count / kScaleCols)) - 1;
        lanes = fp8_to_float({_mm_maskz_loadu_epi8(static_cast<__mmask16>(mask), p)});
      }
#else
      uint8_t padded[kBlockCols / kScaleCols];
      if (count < kBlockCols) {
        std::fill(std::begin(padded), std::end(padded), uint8_t{0});
        std::memcpy(padded, p, static_cast<size_t>(count / kScaleCols));
        p = padded;
      }
      for (int64_t i = 0; i < kBlockCols / kScaleCols; i += kLanes) set_lanes(i, load_fp8(p + i));
#endif
    }
  };

  static float factor(const WeightMatrix& w, int64_t /*row*/) {
    return w.global_scale * kFp8Factor;
  }
};

/// Groups of a multiple of 16 columns.
struct Int4Format : NibbleFormat {
  static constexpr NibbleTable kTable =
      nibble_table({0xc100, 0xc0e0, 0xc0c0, 0xc0a0, 0xc080, 0xc040, 0xc000, 0xbf80, 0, 0x3f80,
                    0x4000, 0x4040, 0x4080, 0x40a0, 0x40c0, 0x40e0});
  using Codes = NibbleCodes<Int4Format>;

  struct Scales : NibbleScales {
    static const uint8_t* at(const WeightMatrix& w, int64_t row, int64_t begin) {
      return bytes_of(w.scales) +
             (row * w.cols + begin) / w.group_size * bits_of(w.scale_dtype) / 8;
    }
    HWY_INLINE void prepare(const WeightMatrix& w, int64_t row, int64_t begin, int64_t count) {
      // Rows are whole groups, so groups can be counted through all of them.
      const auto size = static_cast<uint64_t>(w.group_size);
      const auto first = static_cast<uint64_t>(row * w.cols + begin);
      auto group = static_cast<int64_t>(first / size);
      auto end = static_cast<int64_t>(size - first % size);
      alignas(64) float s[kBlockCols / kScaleCols];
      int64_t c = 0;
      for (; c < count; ++group, end += w.group_size) {
        const float scale = read_scale(w, group);
        for (; c < std::min(count, end); c += kScaleCols) s[c / kScaleCols] = scale;
      }
      for (; c < kBlockCols; c += kScaleCols) s[c / kScaleCols] = 0.0F;
      for (int64_t i = 0; i < kBlockCols / kScaleCols; i += kLanes) set_lanes(i, load(s + i));
    }
  };
};

}  // namespace facet::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
