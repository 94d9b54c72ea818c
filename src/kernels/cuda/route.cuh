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

/// Order of candidates: 0 is none (or taken), 1 NaN, then the logits from the least to the largest.
__device__ inline unsigned candidate_key(float logit) {
  const unsigned bits = __float_as_uint(logit + 0.0F);  // zeros are equal
  if (logit != logit) return 1u;
  return (bits >> 31) != 0 ? ~bits : bits | 0x80000000u;
}
__device__ inline float logit_of_key(unsigned key) {
  if (key < 2) return __uint_as_float(0x7fc00000u);
  return __uint_as_float((key >> 31) != 0 ? key & 0x7fffffffu : ~key);
}

/// The top_k experts of the largest logits, equal ones by lower index, and their softmax, which is
/// that of all experts renormalised over the chosen, times per_expert_scale. One warp; lane l has
/// experts l, l + 32, …. count <= kPerLane * 32, top_k <= 32. Few instructions rather than many at
/// once: decode waits for it.
template <int kPerLane>
__device__ void choose_experts(int32_t* experts,
                               float* weights,
                               const float* logits,
                               const float* per_expert_scale,
                               int count,
                               int top_k) {
  const int lane = threadIdx.x % kWarp;
  unsigned keys[kPerLane];
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) {
    const int e = lane + i * kWarp;
    keys[i] = e < count ? candidate_key(__ldcg(logits + e)) : 0u;
  }
  unsigned largest = 0;
  unsigned mine_key = 0;  // of lane j: the j-th choice
  int mine = 0;
  float mine_scale = 0.0F;
#pragma unroll 1
  for (int j = 0; j < top_k; ++j) {
    unsigned best = 0;
    unsigned index = 0;
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) {
      if (keys[i] > best) {
        best = keys[i];
        index = lane + i * kWarp;
      }
    }
    const unsigned winner = __reduce_max_sync(kAllLanes, best);
    index = __reduce_min_sync(kAllLanes, best == winner ? index : ~0u);
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) {
      if (lane + i * kWarp == index) keys[i] = 0;
    }
    if (j == 0) largest = winner;
    if (lane == j) {
      mine_key = winner;
      mine = static_cast<int>(index);
      mine_scale = __ldg(per_expert_scale + index);
    }
  }
  const float share =
      lane < top_k ? expf(__fsub_rn(logit_of_key(mine_key), logit_of_key(largest))) : 0.0F;
  const float total = warp_sum(share);
  if (lane >= top_k) return;
  experts[lane] = mine;
  weights[lane] = __fmul_rn(share / total, mine_scale);
}

}  // namespace facet::cuda
