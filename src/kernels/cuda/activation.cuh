#pragma once

#include "kernels/activation.h"

namespace facet::cuda {

/// f(z) of kernels/activation.h in float32.
__device__ inline float apply(ActivationFunction function, float z) {
  switch (function) {
    case ActivationFunction::kSilu:
      return z / (1.0F + expf(-z));
    case ActivationFunction::kGeluTanh: {
      constexpr float kRoot = 0.7978845608028654F;  // sqrt(2 / pi)
      return 0.5F * z * (1.0F + tanhf(kRoot * (z + 0.044715F * z * z * z)));
    }
    case ActivationFunction::kRelu2:
      break;
  }
  const float positive = z > 0.0F ? z : z * 0.0F;  // NaN stays NaN
  return positive * positive;
}

/// cap * tanh(x / cap).
__device__ inline float soft_capped(float x, float cap) { return cap * tanhf(x / cap); }

}  // namespace facet::cuda
