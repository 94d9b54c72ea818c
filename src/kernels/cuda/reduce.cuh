#pragma once

// Sums over the threads of a block, always in the same order.

#include "kernels/cuda/device.h"

namespace facet::cuda {

__device__ inline float warp_sum(float value) {
#pragma unroll
  for (int offset = kWarp / 2; offset > 0; offset /= 2)
    value += __shfl_xor_sync(kAllLanes, value, offset);
  return value;
}

__device__ inline float warp_max(float value) {
#pragma unroll
  for (int offset = kWarp / 2; offset > 0; offset /= 2)
    value = fmaxf(value, __shfl_xor_sync(kAllLanes, value, offset));
  return value;
}

/// The sum over all threads of the block, in each of them. kThreads is a multiple of 32, at most
/// 1024. Ends with all threads past their reads, so that it can be called again at once.
template <int kThreads>
__device__ float block_sum(float value) {
  constexpr int kWarps = kThreads / kWarp;
  value = warp_sum(value);
  if constexpr (kWarps == 1) return value;
  __shared__ float parts[kWarps];
  if (threadIdx.x % kWarp == 0) parts[threadIdx.x / kWarp] = value;
  __syncthreads();
  float sum = 0.0F;
#pragma unroll
  for (int i = 0; i < kWarps; ++i) sum += parts[i];
  __syncthreads();
  return sum;
}

}  // namespace facet::cuda
