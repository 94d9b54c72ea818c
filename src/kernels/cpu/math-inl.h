// exp, tanh and the parts of a softmax, for the instruction set being compiled. Re-included for
// each (see foreach_target.h).

#include <cstdint>
#include <limits>

#include "kernels/cpu/simd_targets.h"

#if defined(FACET_CPU_MATH_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef FACET_CPU_MATH_INL_H
#undef FACET_CPU_MATH_INL_H
#else
#define FACET_CPU_MATH_INL_H
#endif

#include <hwy/contrib/math/math-inl.h>

#include "kernels/cpu/vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace facet::cpu::HWY_NAMESPACE {

/// Highway's functions, which turn a NaN into a number, with NaN kept: a fault upstream must stay
/// visible.
HWY_INLINE V keep_nan(V x, V y) { return hn::IfThenElse(hn::IsNaN(x), x, y); }
/// Within 1 ulp for x <= 88, which larger ones are taken for.
HWY_INLINE V exp_of(V x) { return keep_nan(x, hn::Exp(D(), hn::Min(x, set(88.0F)))); }
/// Within 4 ulp.
HWY_INLINE V tanh_of(V x) { return keep_nan(x, hn::Tanh(D(), x)); }

/// The largest of n >= 1 values.
inline float max_of(const float* x, int64_t n) {
  V most = set(-std::numeric_limits<float>::infinity());
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) most = hn::Max(most, load(x + i));
  float result = hn::GetLane(hn::MaxOfLanes(D(), most));
  for (; i < n; ++i) {
    if (x[i] > result) result = x[i];
  }
  return result;
}

/// x = exp(x - max); returns the sum.
inline float exp_and_sum(float* x, float max, int64_t n) {
  const V shift = set(max);
  V sum = zero();
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    const V e = exp_of(hn::Sub(load(x + i), shift));
    store(e, x + i);
    sum = hn::Add(sum, e);
  }
  if (i < n) {
    store_part(exp_of(hn::Sub(load_part(x + i, n - i), shift)), x + i, n - i);
    sum = hn::Add(sum, load_part(x + i, n - i));
  }
  return sum_of(sum);
}

}  // namespace facet::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
