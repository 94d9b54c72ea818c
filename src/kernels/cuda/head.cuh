#pragma once

// One head of q, k or v in a warp: its norm and rotation, the same bits in every kernel.

#include "kernels/cuda/reduce.cuh"

namespace facet::cuda {

/// The angles of one position, for a head of kPerLane * 32 components: in lane l those of
/// components l, l + 32, … of the first half.
template <int kPerLane>
struct Rotation {
  float sines[kPerLane / 2];
  float cosines[kPerLane / 2];

  __device__ void find(const float* frequencies, int angles, int32_t position, int lane) {
    load(frequencies, angles, lane);
    find(angles, position, lane);
  }
  /// The same in two steps: the frequencies stand in `cosines` in between.
  __device__ void load(const float* frequencies, int angles, int lane) {
#pragma unroll
    for (int i = 0; i < kPerLane / 2; ++i) {
      const int index = lane + i * kWarp;
      cosines[i] = index < angles ? frequencies[index] : 0.0F;
    }
  }
  __device__ void find(int angles, int32_t position, int lane) {
#pragma unroll
    for (int i = 0; i < kPerLane / 2; ++i) {
      if (lane + i * kWarp >= angles) continue;
      sincosf(__fmul_rn(static_cast<float>(position), cosines[i]), &sines[i], &cosines[i]);
    }
  }
};

/// kPerLane * 32 components; lane l has components l, l + 32, …, so that both of a rotated pair are
/// in one lane.
template <int kPerLane>
struct Head {
  float values[kPerLane];

  __device__ void load(const float* from, int lane) {
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) values[i] = from[lane + i * kWarp];
  }
  /// Over the root of the mean square, then times this lane's weights; null: no weights.
  __device__ void norm(const float* weights, float eps) {
    float squares = 0.0F;
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) squares = fmaf(values[i], values[i], squares);
    const float mean = warp_sum(squares) / static_cast<float>(kPerLane * kWarp);
    const float inverse = 1.0F / sqrtf(__fadd_rn(mean, eps));
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) {
      values[i] = __fmul_rn(values[i], inverse);
      if (weights != nullptr) values[i] = __fmul_rn(values[i], weights[i]);
    }
  }
  __device__ void rotate(const Rotation<kPerLane>& by, int angles, int lane) {
#pragma unroll
    for (int i = 0; i < kPerLane / 2; ++i) {
      if (lane + i * kWarp >= angles) continue;
      const float a = values[i];
      const float b = values[i + kPerLane / 2];
      values[i] = fmaf(a, by.cosines[i], -__fmul_rn(b, by.sines[i]));
      values[i + kPerLane / 2] = fmaf(b, by.cosines[i], __fmul_rn(a, by.sines[i]));
    }
  }
};

}  // namespace facet::cuda
