#pragma once

// A row's choice of experts by one warp, and the products that lead to it; for route.cu and for
// kernels that route beside other work.

#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/weight_value.cuh"

namespace facet::cuda {

/// H^(-1/2).
__device__ inline float router_root(int64_t width) {
  return static_cast<float>(1.0 / sqrt(static_cast<double>(width)));
}

/// What the router multiplies: x * inverse * scale * root.
__device__ inline float router_input(float x, float inverse, float scale, float root) {
  return __fmul_rn(__fmul_rn(__fmul_rn(x, inverse), scale), root);
}

/// sum + the products of eight columns, one after another: z in `low` and `high`, BF16 in `row`.
__device__ inline float add_eight(float sum,
                                  const float4& low,
                                  const float4& high,
                                  const uint4& row) {
  sum = __fmaf_rn(low.x, __uint_as_float(row.x << 16), sum);
  sum = __fmaf_rn(low.y, __uint_as_float(row.x & 0xffff0000u), sum);
  sum = __fmaf_rn(low.z, __uint_as_float(row.y << 16), sum);
  sum = __fmaf_rn(low.w, __uint_as_float(row.y & 0xffff0000u), sum);
  sum = __fmaf_rn(high.x, __uint_as_float(row.z << 16), sum);
  sum = __fmaf_rn(high.y, __uint_as_float(row.z & 0xffff0000u), sum);
  sum = __fmaf_rn(high.z, __uint_as_float(row.w << 16), sum);
  return __fmaf_rn(high.w, __uint_as_float(row.w & 0xffff0000u), sum);
}

/// z · row of BF16 in all lanes of a warp: lane l takes columns 8l … 8l + 7 of each 256. width is a
/// multiple of 8, `row` at 16 bytes.
__device__ inline float router_logit_bf16(const float* z, const uint4* row, int width) {
  float sum = 0.0F;
#pragma unroll 4
  for (int eight = threadIdx.x % kWarp; eight * 8 < width; eight += kWarp) {
    const float4 low = *reinterpret_cast<const float4*>(z + eight * 8);
    const float4 high = *reinterpret_cast<const float4*>(z + eight * 8 + 4);
    sum = add_eight(sum, low, high, row[eight]);
  }
  return warp_sum(sum);
}

/// The same of any format, a lane every 32nd column.
template <WeightFormat kFormat>
__device__ float router_logit(const float* z, const WeightMatrix& proj, int64_t expert) {
  float sum = 0.0F;
  for (int64_t i = threadIdx.x % kWarp; i < proj.cols; i += kWarp)
    sum = __fmaf_rn(z[i], weight_value<kFormat>(proj, expert, i), sum);
  return warp_sum(sum);
}

__device__ inline double warp_sum_double(double value) {
  for (int offset = kWarp / 2; offset > 0; offset /= 2)
    value += __shfl_xor_sync(kAllLanes, value, offset);
  return value;
}

/// Order of candidates: 0 is none (or taken), 1 NaN, then the probabilities, which are not
/// negative.
__device__ inline unsigned candidate_key(float probability) {
  return probability != probability ? 1u : __float_as_uint(probability) + 2u;
}

/// Softmax of a row's `count` logits in float64 (as the reference takes it, so that ties fall
/// alike), then the top_k largest, equal ones by lower index, renormalised, times
/// per_expert_scale. One warp; lane l has experts l, l + 32, …. count <= kPerLane * 32.
template <int kPerLane>
__device__ void choose_experts(int32_t* experts,
                               float* weights,
                               const float* logits,
                               const float* per_expert_scale,
                               int count,
                               int top_k) {
  const int lane = threadIdx.x % kWarp;
  float logit[kPerLane];
  float largest = -INFINITY;
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) {
    const int e = lane + i * kWarp;
    logit[i] = e < count ? __ldcg(logits + e) : -INFINITY;
    largest = fmaxf(largest, logit[i]);
  }
  largest = warp_max(largest);
  double share[kPerLane];
  double total = 0;
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) {
    share[i] = lane + i * kWarp < count
                   ? exp(static_cast<double>(logit[i]) - static_cast<double>(largest))
                   : 0.0;
    total += share[i];
  }
  total = warp_sum_double(total);
  unsigned keys[kPerLane];
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) {
    keys[i] = lane + i * kWarp < count ? candidate_key(static_cast<float>(share[i] / total)) : 0u;
  }
  double chosen_total = 0;
  for (int j = 0; j < top_k; ++j) {
    unsigned best = 0;
    int index = 0;
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) {
      if (keys[i] > best) {
        best = keys[i];
        index = lane + i * kWarp;
      }
    }
    const unsigned winner = __reduce_max_sync(kAllLanes, best);
    index = static_cast<int>(
        __reduce_min_sync(kAllLanes, best == winner ? static_cast<unsigned>(index) : ~0u));
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) {
      if (lane + i * kWarp == index) keys[i] = 0;
    }
    const float probability =
        winner < 2 ? __uint_as_float(0x7fc00000u) : __uint_as_float(winner - 2);
    chosen_total += static_cast<double>(probability);
    if (lane == 0) {
      experts[j] = index;
      weights[j] = probability;
    }
  }
  __syncwarp();
  for (int j = lane; j < top_k; j += kWarp) {
    const auto renormed = static_cast<float>(static_cast<double>(weights[j]) / chosen_total);
    weights[j] = __fmul_rn(renormed, per_expert_scale[experts[j]]);
  }
}

}  // namespace facet::cuda
