#pragma once

// One head of q, k or v in a warp: its norm and rotation, the same bits in every kernel.

#include "kernels/cuda/reduce.cuh"

namespace facet::cuda {

/// kPerLane * 32 components; lane l has components l, l + 32, …, so that both of a rotated pair are
/// in one lane.
template <int kPerLane>
struct Head {
  float values[kPerLane];

  __device__ void load(const float* from, int lane) {
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) values[i] = from[lane + i * kWarp];
  }
  /// `weight` may be null: none.
  __device__ void norm(const float* weight, float eps, int lane) {
    float squares = 0.0F;
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) squares = fmaf(values[i], values[i], squares);
    const float mean = warp_sum(squares) / static_cast<float>(kPerLane * kWarp);
    const float inverse = 1.0F / sqrtf(__fadd_rn(mean, eps));
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) {
      values[i] = __fmul_rn(values[i], inverse);
      if (weight != nullptr) values[i] = __fmul_rn(values[i], weight[lane + i * kWarp]);
    }
  }
  __device__ void rotate(const float* frequencies, int angles, int32_t position, int lane) {
#pragma unroll
    for (int i = 0; i < kPerLane / 2; ++i) {
      const int index = lane + i * kWarp;
      if (index >= angles) continue;
      float sine;
      float cosine;
      sincosf(__fmul_rn(static_cast<float>(position), frequencies[index]), &sine, &cosine);
      const float a = values[i];
      const float b = values[i + kPerLane / 2];
      values[i] = fmaf(a, cosine, -__fmul_rn(b, sine));
      values[i + kPerLane / 2] = fmaf(b, cosine, __fmul_rn(a, sine));
    }
  }
};

}  // namespace facet::cuda
