// Norms, rotation, activations and the like, for every instruction set. What an element gets does
// not depend on where in a vector it lies: the ends of arrays go through the same vector code.

#include "kernels/cpu/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/elementwise.cpp"
#include <cmath>
#include <hwy/foreach_target.h>  // compiles this file once per target; must precede highway.h
#include <hwy/highway.h>

#include "kernels/cpu/kernel_table.h"
#include "kernels/cpu/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace facet::cpu::HWY_NAMESPACE {
namespace {

/// out[i] = op(x[i], y[i]).
template <class Op>
HWY_INLINE void map(float* out, const float* x, const float* y, int64_t n, const Op& op) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store(op(load(x + i), load(y + i)), out + i);
  if (i < n) store_part(op(load_part(x + i, n - i), load_part(y + i, n - i)), out + i, n - i);
}

struct Add {
  HWY_INLINE V operator()(V x, V y) const { return hn::Add(x, y); }
};

struct Scale {
  V factor;
  HWY_INLINE V operator()(V x, V /*y*/) const { return hn::Mul(x, factor); }
};

struct Multiply {
  V factor;
  HWY_INLINE V operator()(V x, V y) const { return hn::Mul(hn::Mul(x, y), factor); }
};

/// x * factor * y, in that order.
struct ScaleMultiply {
  V factor;
  HWY_INLINE V operator()(V x, V y) const { return hn::Mul(hn::Mul(x, factor), y); }
};

struct SoftCap {
  V cap;
  HWY_INLINE V operator()(V x, V /*y*/) const { return hn::Mul(cap, tanh_of(hn::Div(x, cap))); }
};

struct Silu {
  static HWY_INLINE V apply(V z) { return hn::Div(z, hn::Add(set(1.0F), exp_of(hn::Neg(z)))); }
};

struct GeluTanh {
  /// 0.5 (1 + tanh u) = 1 / (1 + exp(-2u)), which keeps its digits where tanh u is close to -1.
  static HWY_INLINE V apply(V z) {
    constexpr float kRoot = 0.7978845608028654F;  // √(2/π)
    const V cube = hn::Mul(hn::Mul(z, z), z);
    const V u = hn::Mul(set(kRoot), hn::MulAdd(set(0.044715F), cube, z));
    return hn::Div(z, hn::Add(set(1.0F), exp_of(hn::Mul(set(-2.0F), u))));
  }
};

struct Relu2 {
  static HWY_INLINE V apply(V z) {
    const V positive = hn::IfThenElse(hn::Lt(z, zero()), zero(), z);
    return hn::Mul(positive, positive);
  }
};

template <class F>
struct Gated {
  HWY_INLINE V operator()(V gate, V up) const { return hn::Mul(F::apply(gate), up); }
};

template <class F>
struct Plain {
  HWY_INLINE V operator()(V up, V /*same*/) const { return F::apply(up); }
};

template <class F>
void activate_with(float* out, const float* gate, const float* up, int64_t n, Gating gating) {
  if (gating == Gating::kGated) {
    map(out, gate, up, n, Gated<F>());
  } else {
    map(out, up, up, n, Plain<F>());
  }
}

void activate(
    float* out, const float* gate, const float* up, int64_t n, const Activation& activation) {
  switch (activation.function) {
    case ActivationFunction::kSilu:
      return activate_with<Silu>(out, gate, up, n, activation.gating);
    case ActivationFunction::kGeluTanh:
      return activate_with<GeluTanh>(out, gate, up, n, activation.gating);
    case ActivationFunction::kRelu2:
      return activate_with<Relu2>(out, gate, up, n, activation.gating);
  }
}

void add(float* x, const float* y, int64_t n) { map(x, x, y, n, Add()); }

void scale(float* x, float factor, int64_t n) { map(x, x, x, n, Scale{set(factor)}); }

void multiply(float* out, const float* x, const float* y, float factor, int64_t n) {
  map(out, x, y, n, Multiply{set(factor)});
}

void soft_cap(float* x, float cap, int64_t n) { map(x, x, x, n, SoftCap{set(cap)}); }

/// Four accumulators: the sum of a few thousand squares stays within a few ulp.
float sum_of_squares(const float* x, int64_t n) {
  V sums[4] = {zero(), zero(), zero(), zero()};
  int64_t i = 0;
  for (; i + 4 * kLanes <= n; i += 4 * kLanes) {
#pragma GCC unroll 8
    for (int64_t j = 0; j < 4; ++j) {
      const V v = load(x + i + j * kLanes);
      sums[j] = hn::MulAdd(v, v, sums[j]);
    }
  }
  for (; i + kLanes <= n; i += kLanes) {
    const V v = load(x + i);
    sums[0] = hn::MulAdd(v, v, sums[0]);
  }
  if (i < n) {
    const V v = load_part(x + i, n - i);
    sums[1] = hn::MulAdd(v, v, sums[1]);
  }
  return sum_of(hn::Add(hn::Add(sums[0], sums[1]), hn::Add(sums[2], sums[3])));
}

void rms_norm(float* out, const float* x, const float* weight, int64_t n, float eps) {
  const float mean = sum_of_squares(x, n) / static_cast<float>(n);
  const V factor = set(1.0F / std::sqrt(mean + eps));
  if (weight == nullptr) {
    map(out, x, x, n, Scale{factor});
  } else {
    map(out, x, weight, n, ScaleMultiply{factor});
  }
}

void rotate(float* x, const float* cosines, const float* sines, int64_t angles, int64_t half) {
  float* y = x + half;
  int64_t i = 0;
  for (; i + kLanes <= angles; i += kLanes) {
    const V c = load(cosines + i);
    const V s = load(sines + i);
    const V a = load(x + i);
    const V b = load(y + i);
    store(hn::Sub(hn::Mul(a, c), hn::Mul(b, s)), x + i);
    store(hn::Add(hn::Mul(b, c), hn::Mul(a, s)), y + i);
  }
  for (; i < angles; ++i) {
    const float a = x[i];
    const float b = y[i];
    x[i] = a * cosines[i] - b * sines[i];
    y[i] = b * cosines[i] + a * sines[i];
  }
}

void softmax(float* x, int64_t n) {
  if (n == 0) return;
  const float sum = exp_and_sum(x, max_of(x, n), n);
  for (int64_t i = 0; i < n; ++i) x[i] /= sum;
}

}  // namespace

void set_elementwise(KernelTable& table) {
  table.rms_norm = rms_norm;
  table.rotate = rotate;
  table.activate = activate;
  table.add = add;
  table.scale = scale;
  table.multiply = multiply;
  table.soft_cap = soft_cap;
  table.softmax = softmax;
}

}  // namespace facet::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace facet::cpu {

void set_elementwise_kernels(Isa isa, KernelTable& table) {
  switch (isa) {
#if HWY_TARGETS & HWY_AVX2
    case Isa::kAvx2:
      return N_AVX2::set_elementwise(table);
    case Isa::kAvx512:
      return N_AVX3::set_elementwise(table);
#endif
    default:
      return HWY_STATIC_DISPATCH(set_elementwise)(table);
  }
}

}  // namespace facet::cpu
#endif
