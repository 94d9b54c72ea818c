#pragma once

// A row's choice of experts by one warp, and the products that lead to it; for route.cu and for
// kernels that route beside other work.

#include "kernels/cuda/order.cuh"
#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/route.h"
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
  return logit != logit ? 1U : order_of(logit);
}
__device__ inline float logit_of_key(unsigned key) {
  return key < 2 ? __uint_as_float(0x7fc00000U) : float_of_order(key);
}

/// The experts that one lane chooses from, l, l + 32, …, the best first: of equal keys the lower
/// expert.
template <int kPerLane>
struct Candidates {
  unsigned keys[kPerLane];  // 0: none
  unsigned experts[kPerLane];

  /// logits(i): of expert l + 32 i.
  template <typename Logits>
  __device__ void load(const Logits& logits, int count) {
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) {
      experts[i] = threadIdx.x % kWarp + i * kWarp;
      keys[i] = static_cast<int>(experts[i]) < count ? candidate_key(logits(i)) : 0;
    }
#pragma unroll
    for (int end = kPerLane - 1; end > 0; --end) {
#pragma unroll
      for (int i = 0; i < end; ++i) {
        const bool later = keys[i + 1] > keys[i];
        const unsigned key = keys[i];
        const unsigned expert = experts[i];
        keys[i] = later ? keys[i + 1] : key;
        experts[i] = later ? experts[i + 1] : expert;
        keys[i + 1] = later ? key : keys[i + 1];
        experts[i + 1] = later ? expert : experts[i + 1];
      }
    }
  }
  /// Takes the best away.
  __device__ void drop() {
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) {
      keys[i] = i + 1 < kPerLane ? keys[i + 1] : 0;
      experts[i] = i + 1 < kPerLane ? experts[i + 1] : 0;
    }
  }
};

/// A row's logits in memory, past L1: other SMs may have written them just now.
__device__ inline auto logits_at(const float* logits) {
  return [logits](int i) { return __ldcg(logits + threadIdx.x % kWarp + i * kWarp); };
}

/// An expert of a row, in the lane of its place among the chosen.
struct ChosenExpert {
  unsigned expert = 0;
  unsigned key = 0;  // candidate_key(), and the largest of all
  unsigned largest = 0;
};

/// The top_k experts of the largest logits, logits(i) of expert l + 32 i in lane l, equal ones by
/// lower index. One warp. count <= kPerLane * 32, top_k <= 32. Few instructions rather than many at
/// once: decode waits for it.
template <int kPerLane, typename Logits>
__device__ ChosenExpert pick_experts(const Logits& logits, int count, int top_k) {
  const int lane = threadIdx.x % kWarp;
  Candidates<kPerLane> candidates;
  candidates.load(logits, count);
  ChosenExpert chosen;
#pragma unroll 1
  for (int j = 0; j < top_k; ++j) {
    const unsigned winner = __reduce_max_sync(kAllLanes, candidates.keys[0]);
    bool won = candidates.keys[0] == winner;
    unsigned winners = __ballot_sync(kAllLanes, won);
    if (__popc(winners) > 1) {
      const unsigned first = __reduce_min_sync(kAllLanes, won ? candidates.experts[0] : ~0u);
      won = won && candidates.experts[0] == first;
      winners = __ballot_sync(kAllLanes, won);
    }
    const unsigned who = __shfl_sync(kAllLanes, candidates.experts[0], __ffs(winners) - 1);
    if (won) candidates.drop();
    if (j == 0) chosen.largest = winner;
    if (lane == j) {
      chosen.key = winner;
      chosen.expert = who;
    }
  }
  return chosen;
}

/// The weight of the lane's expert: the softmax of the chosen, which is that of all experts
/// renormalised over them, times `scale`.
__device__ inline float weigh_expert(const ChosenExpert& chosen, float scale, int top_k) {
  const bool any = static_cast<int>(threadIdx.x % kWarp) < top_k;
  const float share =
      any ? expf(__fsub_rn(logit_of_key(chosen.key), logit_of_key(chosen.largest))) : 0.0F;
  return __fmul_rn(share / warp_sum(share), scale);
}

/// Both, into memory; null: no weights.
template <int kPerLane, typename Logits>
__device__ void choose_experts(int32_t* experts,
                               float* weights,
                               const Logits& logits,
                               const float* per_expert_scale,
                               int count,
                               int top_k) {
  const int lane = threadIdx.x % kWarp;
  const ChosenExpert chosen = pick_experts<kPerLane>(logits, count, top_k);
  if (lane < top_k) experts[lane] = static_cast<int32_t>(chosen.expert);
  if (weights == nullptr) return;
  const float weight = weigh_expert(chosen, __ldg(per_expert_scale + chosen.expert), top_k);
  if (lane < top_k) weights[lane] = weight;
}

}  // namespace facet::cuda
