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
  alignas(64) uint32_t f32[16];   // their bits
  alignas(64) uint16_t bf16[32];  // twice
  alignas(16) uint8_t low[16];    // of their BF16 bits
  alignas(16) uint8_t high[16];   // of their BF16 bits
};

/// bf16: the BF16 bits of the values.
constexpr NibbleTable nibble_table(const std::array<uint16_t, 16>& bf16) {
  NibbleTable table{};
  for (size_t i = 0; i < 16; ++i) {
    table.f32[i] = uint32_t{bf16[i]} << 16;
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
// A lane holds the 16 codes of a block: the low eight in one register, the high eight in another.
// Even lanes are blocks 0 to 7, odd lanes 8 to 15, since then loads at shifted addresses put them
// together without a shuffle. What bounds this is how many shuffles, shifts and multiply-adds the
// pipes can take, so each code costs one look-up and no more: the code at bit 0 of a lane among 16
// floats (of an index the look-up reads four bits), the code at bit 16 among the upper halves of
// floats, with a mask that zeroes the lower halves. That one reads five bits of an index, the fifth
// of which belongs to the next code: hence each value twice.
inline constexpr int64_t kNibbleGroups = 1;
inline constexpr int64_t kNibbleGroupVectors = 16;

constexpr int64_t nibble_column(int64_t vector, int64_t lane) {
  const int64_t block = lane / 2 + lane % 2 * 8;
  return block * kScaleCols + vector / 8 * 8 + vector % 2 * 4 + vector / 2 % 4;
}

template <class Format>
struct NibbleCodes {
  HWY_INLINE NibbleCodes() {}  // see Chunk
  HWY_INLINE void load(const uint8_t* p, int64_t columns) {
    floats = hn::BitCast(D(), hn::Load(DU32(), Format::kTable.f32));
    halves = hn::Load(DU16(), Format::kTable.bf16);
    if (columns >= kBlockCols) {
      words[0].raw = _mm512_mask_loadu_epi32(_mm512_loadu_si512(p), kOdd, p + 60);
      words[1].raw = _mm512_mask_loadu_epi32(_mm512_loadu_si512(p + 4), kOdd, p + 64);
      return;
    }
    // Blocks are eight bytes. Nothing beyond the row is read.
    const int64_t blocks = columns / kScaleCols;
    const uint32_t in_even = (1u << (2 * std::min<int64_t>(blocks, 8))) - 1;
    const uint32_t in_odd = (1u << (2 * std::max<int64_t>(blocks - 8, 0))) - 1;
    const auto even = static_cast<__mmask16>(~kOdd & in_even);
    const auto odd = static_cast<__mmask16>(kOdd & in_odd);
    words[0].raw = _mm512_mask_loadu_epi32(_mm512_maskz_loadu_epi32(even, p), odd, p + 60);
    words[1].raw = _mm512_mask_loadu_epi32(_mm512_maskz_loadu_epi32(even, p + 4), odd, p + 64);
  }
  HWY_INLINE V next(int64_t vector) {
    auto& word = words[vector / 8];
    if (vector % 2 == 0) return V{_mm512_permutexvar_ps(word.raw, floats.raw)};
    const hn::Vec<DU32> upper{_mm512_maskz_permutexvar_epi16(0xaaaaaaaa, word.raw, halves.raw)};
    word = hn::ShiftRight<4>(word);
    return hn::BitCast(D(), upper);
  }
  static constexpr uint32_t kOdd = 0xaaaa;
  V floats;
  hn::Vec<DU16> halves;
  hn::Vec<DU16> words[2];
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

/// The columns of a chunk in the order of the codes.
constexpr std::array<uint8_t, kNibbleCols> nibble_order() {
  static_assert(kNibbleCols <= 256);
  std::array<uint8_t, kNibbleCols> order{};
  for (int64_t i = 0; i < kNibbleCols; ++i) {
    order[static_cast<size_t>(i)] = static_cast<uint8_t>(nibble_column(i / kLanes, i % kLanes));
  }
  return order;
}
inline constexpr std::array<uint8_t, kNibbleCols> kNibbleOrder = nibble_order();

/// out = x in the order of the codes, zeros beyond `cols`. out: [round_up(cols, kBlockCols)].
inline void arrange_nibbles(const float* x, int64_t cols, float* out) {
  for (int64_t begin = 0; begin < round_up(cols, kBlockCols); begin += kNibbleCols) {
    if (begin + kNibbleCols <= cols) {
      for (const uint8_t column : kNibbleOrder) *out++ = x[begin + column];
    } else {
      for (const uint8_t column : kNibbleOrder) {
        *out++ = begin + column < cols ? x[begin + column] : 0.0F;
      }
    }
  }
}

// ---- formats: see decode-inl.h ----

/// Scales of one weight row for a block, one for 16 columns.
struct NibbleScales {
#if HWY_TARGET == HWY_AVX3
  HWY_INLINE V group(int64_t /*g*/) const { return lanes; }
  HWY_INLINE void set_blocks(int64_t /*i*/, V v) {
    const __m512i block = _mm512_setr_epi32(0, 8, 1, 9, 2, 10, 3, 11, 4, 12, 5, 13, 6, 14, 7, 15);
    lanes.raw = _mm512_permutexvar_ps(block, v.raw);
  }
  V lanes;
#else
  HWY_INLINE V group(int64_t g) const { return nibble_scales(s, g); }
  HWY_INLINE void set_blocks(int64_t i, V v) { hn::Store(v, D(), s + i); }
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
      const __m128i block = _mm_setr_epi8(0, 8, 1, 9, 2, 10, 3, 11, 4, 12, 5, 13, 6, 14, 7, 15);
      const uint32_t mask = (1u << (count / kScaleCols)) - 1;
      const __m128i bytes = count == kBlockCols
                                ? _mm_loadu_si128(reinterpret_cast<const __m128i*>(p))
                                : _mm_maskz_loadu_epi8(static_cast<__mmask16>(mask), p);
      lanes = fp8_to_float({_mm_shuffle_epi8(bytes, block)});
#else
      uint8_t padded[kBlockCols / kScaleCols];
      if (count < kBlockCols) {
        std::fill(std::begin(padded), std::end(padded), uint8_t{0});
        std::memcpy(padded, p, static_cast<size_t>(count / kScaleCols));
        p = padded;
      }
      for (int64_t i = 0; i < kBlockCols / kScaleCols; i += kLanes) set_blocks(i, load_fp8(p + i));
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
      for (int64_t i = 0; i < kBlockCols / kScaleCols; i += kLanes) set_blocks(i, load(s + i));
    }
  };
};

}  // namespace facet::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
