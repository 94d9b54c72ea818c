// Plain weights to lossy formats, for every instruction set: the bytes that the scalar encoders of
// quant/ give, so each step is theirs, without fused multiply-adds.

#include "kernels/cpu/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/encode.cpp"
#include <algorithm>
#include <array>
#include <cmath>
#include <hwy/foreach_target.h>  // compiles this file once per target; must precede highway.h
#include <hwy/highway.h>

#include "kernels/cpu/kernel_table.h"
#include "kernels/cpu/vector-inl.h"
#include "quant/float_formats.h"
#include "quant/int8.h"
#include "quant/nvfp4.h"

HWY_BEFORE_NAMESPACE();
namespace facet::cpu::HWY_NAMESPACE {
namespace {

/// kLanes blocks of 16 weights side by side: lane l of row i is weight i of block l.
struct Blocks {
  HWY_ALIGN float magnitude[kNvfp4Block][kLanes];
  HWY_ALIGN float code[kNvfp4Block][kLanes];
  HWY_ALIGN float scale[kLanes];  // E4M3 codes, as numbers
  HWY_ALIGN float step[kLanes];
};

/// The nearest E2M1 magnitude of x >= 0, ties to the even code, saturating. Adding and taking away
/// 1.5 * 2^23 steps rounds to a whole step, ties to even; steps are 0.5 below 2, 1 below 4, then 2.
HWY_INLINE V nearest_e2m1(V x) {
  const V fine = hn::IfThenElse(hn::Lt(x, set(2.0F)), set(0x1.8p22F), set(0x1.8p23F));
  const V shift = hn::IfThenElse(hn::Lt(x, set(4.0F)), fine, set(0x1.8p24F));
  return hn::Min(hn::Sub(hn::Add(x, shift), shift), set(6.0F));
}

/// 0, .5, 1, 1.5, 2, 3, 4, 6 to 0 … 7.
HWY_INLINE V code_of_e2m1(V value) {
  const V small = hn::Add(value, value);
  const V large = hn::IfThenElse(hn::Lt(value, set(5.0F)), hn::Add(value, set(2.0F)), set(7.0F));
  return hn::IfThenElse(hn::Le(value, set(2.0F)), small, large);
}

HWY_INLINE V squared_error(const Blocks& blocks, V step) {
  const V inverse = hn::Div(set(1.0F), step);
  V sum = zero();
#pragma GCC unroll 16
  for (int32_t i = 0; i < kNvfp4Block; ++i) {
    const V magnitude = hn::Load(D(), blocks.magnitude[i]);
    const V value = hn::Mul(nearest_e2m1(hn::Mul(magnitude, inverse)), step);
    const V difference = hn::Sub(magnitude, value);
    sum = hn::Add(sum, hn::Mul(difference, difference));
  }
  return sum;
}

void choose_scales(Blocks& blocks, float global_scale) {
  V amax = zero();
  for (const auto& row : blocks.magnitude) amax = hn::Max(amax, hn::Load(D(), row));
  HWY_ALIGN float amaxes[kLanes];
  hn::Store(amax, D(), amaxes);
  std::array<int32_t, kLanes> rules{};
  for (size_t l = 0; l < kLanes; ++l) rules[l] = nvfp4_rule_scale(amaxes[l], global_scale);
  V least = zero();
  V best_step = zero();
  V best_scale = zero();
  for (const int32_t distance : kNvfp4Candidates) {
    HWY_ALIGN float scales[kLanes];
    HWY_ALIGN float steps[kLanes];
    for (size_t l = 0; l < kLanes; ++l) {
      const int32_t scale = std::clamp(rules[l] + distance, 1, 0x7e);
      scales[l] = static_cast<float>(scale);
      steps[l] = e4m3_table()[static_cast<size_t>(scale)] * global_scale;
    }
    const V step = hn::Load(D(), steps);
    const V error = squared_error(blocks, step);
    const auto better = distance == 0 ? hn::Eq(error, error) : hn::Lt(error, least);
    least = hn::IfThenElse(better, error, least);
    best_step = hn::IfThenElse(better, step, best_step);
    best_scale = hn::IfThenElse(better, hn::Load(D(), scales), best_scale);
  }
  hn::Store(best_step, D(), blocks.step);
  hn::Store(best_scale, D(), blocks.scale);
}

void choose_codes(Blocks& blocks) {
  const V inverse = hn::Div(set(1.0F), hn::Load(D(), blocks.step));
  for (int32_t i = 0; i < kNvfp4Block; ++i) {
    const V magnitude = hn::Load(D(), blocks.magnitude[i]);
    hn::Store(code_of_e2m1(nearest_e2m1(hn::Mul(magnitude, inverse))), D(), blocks.code[i]);
  }
}

void encode_nvfp4(
    const float* w, int64_t cols, float global_scale, uint8_t* codes, uint8_t* scales) {
  Blocks blocks;
  const int64_t count = cols / kNvfp4Block;
  for (int64_t first = 0; first < count; first += kLanes) {
    const int64_t lanes = std::min(kLanes, count - first);
    if (lanes < kLanes) std::fill_n(&blocks.magnitude[0][0], kNvfp4Block * kLanes, 0.0F);
    for (int64_t l = 0; l < lanes; ++l) {
      const float* from = w + (first + l) * kNvfp4Block;
      for (int64_t i = 0; i < kNvfp4Block; ++i) blocks.magnitude[i][l] = std::fabs(from[i]);
    }
    choose_scales(blocks, global_scale);
    choose_codes(blocks);
    for (int64_t l = 0; l < lanes; ++l) {
      const float* from = w + (first + l) * kNvfp4Block;
      scales[first + l] = static_cast<uint8_t>(blocks.scale[l]);
      uint8_t* to = codes + (first + l) * (kNvfp4Block / 2);
      const auto code = [&](int64_t i) {
        return static_cast<int32_t>(blocks.code[i][l]) | (from[i] < 0.0F ? 8 : 0);
      };
      for (int64_t i = 0; i < kNvfp4Block; i += 2) {
        to[i / 2] = static_cast<uint8_t>(code(i) | (code(i + 1) << 4));
      }
    }
  }
}

/// Codes of up to kLanes weights.
HWY_INLINE void store_int8(V w, V inverse, int8_t* to, int64_t count) {
  const hn::Rebind<int8_t, D> d8;
  const V limit = set(127.0F);
  const V scaled = hn::Round(hn::Mul(w, inverse));
  const V held = hn::Max(hn::Min(scaled, limit), hn::Neg(limit));
  const auto codes = hn::DemoteTo(d8, hn::ConvertTo(hn::Repartition<int32_t, D>(), held));
  HWY_ALIGN int8_t lanes[kLanes];
  hn::Store(codes, d8, lanes);
  std::copy_n(lanes, count, to);
}

void encode_int8(const float* w, int64_t cols, int32_t group, int8_t* codes, uint16_t* scales) {
  for (int64_t begin = 0; begin < cols; begin += group) {
    const int64_t end = std::min(begin + group, cols);
    const int64_t whole = begin + (end - begin) / kLanes * kLanes;
    V amax = zero();
    for (int64_t c = begin; c < whole; c += kLanes) amax = hn::Max(amax, hn::Abs(load(w + c)));
    if (whole < end) amax = hn::Max(amax, hn::Abs(load_part(w + whole, end - whole)));
    const float largest = hn::GetLane(hn::MaxOfLanes(D(), amax));
    const uint16_t bits = float_to_bf16(largest / 127.0F);
    const float scale = facet::bf16_to_float(bits);
    *scales++ = bits;
    const V inverse = set(scale < kSmallestScale ? 0.0F : 1.0F / scale);
    for (int64_t c = begin; c < whole; c += kLanes) {
      store_int8(load(w + c), inverse, codes + c, kLanes);
    }
    if (whole < end) {
      store_int8(load_part(w + whole, end - whole), inverse, codes + whole, end - whole);
    }
  }
}

}  // namespace

void set_encode(KernelTable& table) {
  table.encode_nvfp4 = encode_nvfp4;
  table.encode_int8 = encode_int8;
}

}  // namespace facet::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace facet::cpu {

void set_encode_kernels(Isa isa, KernelTable& table) {
  switch (isa) {
#if HWY_TARGETS & HWY_AVX2
    case Isa::kAvx2:
      return N_AVX2::set_encode(table);
    case Isa::kAvx512:
      return N_AVX3::set_encode(table);
#endif
    default:
      return HWY_STATIC_DISPATCH(set_encode)(table);
  }
}

}  // namespace facet::cpu
#endif
