// The vector type of the instruction set being compiled, and loads and stores of part of one.
// Re-included for each (see foreach_target.h).

#include <cstdint>
#include <cstring>

#include "kernels/cpu/simd_targets.h"

#if defined(FACET_CPU_VECTOR_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef FACET_CPU_VECTOR_INL_H
#undef FACET_CPU_VECTOR_INL_H
#else
#define FACET_CPU_VECTOR_INL_H
#endif

#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace facet::cpu::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

using D = hn::ScalableTag<float>;
using V = hn::Vec<D>;

/// Floats in a vector: 4, 8 or 16.
inline constexpr int64_t kLanes = HWY_LANES(float);

HWY_INLINE V zero() { return hn::Zero(D()); }
HWY_INLINE V set(float value) { return hn::Set(D(), value); }
HWY_INLINE V load(const float* p) { return hn::LoadU(D(), p); }
HWY_INLINE void store(V v, float* p) { hn::StoreU(v, D(), p); }

/// p[0 .. n) and zeros, 0 <= n < kLanes.
HWY_INLINE V load_part(const float* p, int64_t n) {
  HWY_ALIGN float lanes[kLanes] = {};
  std::memcpy(lanes, p, static_cast<size_t>(n) * sizeof(float));
  return hn::Load(D(), lanes);
}

/// Writes the first n lanes, 0 <= n < kLanes.
HWY_INLINE void store_part(V v, float* p, int64_t n) {
  HWY_ALIGN float lanes[kLanes];
  hn::Store(v, D(), lanes);
  std::memcpy(p, lanes, static_cast<size_t>(n) * sizeof(float));
}

HWY_INLINE float sum_of(V v) { return hn::GetLane(hn::SumOfLanes(D(), v)); }

/// out[i] = sum_of(v[i]) * factor[i], bit for bit, i < 4.
HWY_INLINE void sums_of(const V (&v)[4], const float* factor, float* out) {
#if HWY_TARGET == HWY_AVX3
  // The same pairs are added as in sum_of (lanes 8 apart, then 4, 2 and 1), for all four at once.
  const auto halves = [](__m512 a, __m512 b) HWY_ATTR {
    return _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xee));
  };
  const __m512 ab = halves(v[0].raw, v[1].raw);
  const __m512 cd = halves(v[2].raw, v[3].raw);
  __m512 sum =
      _mm512_add_ps(_mm512_shuffle_f32x4(ab, cd, 0x88), _mm512_shuffle_f32x4(ab, cd, 0xdd));
  sum = _mm512_add_ps(sum, _mm512_permute_ps(sum, 0x4e));
  sum = _mm512_add_ps(sum, _mm512_permute_ps(sum, 0xb1));
  const __m128 sums = _mm512_castps512_ps128(_mm512_maskz_compress_ps(0x1111, sum));
  _mm_storeu_ps(out, _mm_mul_ps(sums, _mm_loadu_ps(factor)));
#else
  for (int i = 0; i < 4; ++i) out[i] = sum_of(v[i]) * factor[i];
#endif
}

constexpr int64_t round_up(int64_t value, int64_t to) { return (value + to - 1) / to * to; }

}  // namespace facet::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
