#pragma once

// Which experts the rows of a streamed call chose, in the shared memory of a CTA.

#include "kernels/cuda/experts_kernels.h"
#include "kernels/cuda/route.cuh"

namespace facet::cuda {

/// The pairs that chose one expert.
struct __align__(16) ExpertGroup {
  int expert;
  int count;
  uint8_t pairs[kStreamExpertRows];
};

/// In shared memory.
struct StreamChoice {
  ExpertGroup groups[kStreamPairs];  ///< in order of their first pairs
  int count;                         ///< of groups
  alignas(16) int experts[kStreamPairs];
  float weights[kStreamPairs];
};

/// experts (and weights) of all pairs. Where the router's logits are given a warp chooses for a
/// row, with the bits of route(): of one row the first warp, which alone must come here. One row:
/// its groups too. Not to be read before find_groups().
__device__ __forceinline__ void read_choice(const ExpertsWork& work,
                                            StreamChoice& choice,
                                            bool weights_too) {
  const int pairs = work.rows * work.top_k;
  if (work.choice.logits != nullptr) {
    const int warps = static_cast<int>(blockDim.x) / kWarp;
    for (int t = threadIdx.x / kWarp; t < work.rows; t += warps) {
      choose_experts<kMostStreamExperts / kWarp>(
          choice.experts + t * work.top_k, weights_too ? choice.weights + t * work.top_k : nullptr,
          logits_at(work.choice.logits + t * work.layer.count), work.choice.per_expert_scale,
          work.layer.count, work.top_k);
    }
    __syncwarp();
  }
  const int p = threadIdx.x;
  if (p >= pairs) return;
  if (work.choice.logits == nullptr) {
    choice.experts[p] = work.chosen[p];
    if (weights_too) choice.weights[p] = work.weights[p];
  }
  if (work.rows > 1) return;
  choice.groups[p] = {choice.experts[p], 1, {static_cast<uint8_t>(p)}};
  if (p == 0) choice.count = pairs;
}

/// Makes the groups, between barriers of the CTA.
__device__ __forceinline__ void find_groups(const ExpertsWork& work, StreamChoice& choice) {
  static_assert(kStreamPairs == 2 * kWarp);
  __syncthreads();
  if (work.rows == 1) return;
  const int pairs = work.rows * work.top_k;
  const int lane = threadIdx.x % kWarp;
  if (threadIdx.x < kWarp) {
    int before = 0;
#pragma unroll 1
    for (int p = lane; p < kStreamPairs; p += kWarp) {
      const int mine = p < pairs ? choice.experts[p] : -1;
      uint64_t same = 0;
      for (int q = 0; q < pairs; ++q) same |= static_cast<uint64_t>(choice.experts[q] == mine) << q;
      const bool first = p < pairs && (same & ((uint64_t{1} << p) - 1)) == 0;
      const unsigned firsts = __ballot_sync(kAllLanes, first);
      if (first) {
        ExpertGroup& group = choice.groups[before + __popc(firsts & ((1u << lane) - 1))];
        group.expert = mine;
        int count = 0;
        for (; same != 0 && count < kStreamExpertRows; same &= same - 1)
          group.pairs[count++] = static_cast<uint8_t>(__ffsll(static_cast<long long>(same)) - 1);
        group.count = count;
      }
      before += __popc(firsts);
    }
    if (lane == 0) choice.count = before;
  }
  __syncthreads();
}

}  // namespace facet::cuda
