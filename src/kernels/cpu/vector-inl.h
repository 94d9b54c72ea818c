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

constexpr int64_t round_up(int64_t value, int64_t to) { return (value + to - 1) / to * to; }

}  // namespace facet::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
