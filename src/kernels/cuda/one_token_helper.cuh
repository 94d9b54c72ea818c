#pragma once

// What the warps of one_token share, and the warp that routes.

#include "kernels/cuda/one_token_attention.cuh"

namespace facet::cuda {

inline constexpr int kMostEights = kTokenHidden / 8 / kWarp;  // of a lane in a row of the router

struct TokenShared {
  TokenRings rings;
  alignas(128) uint8_t scratch[kTokenScratch];
  alignas(16) TokenTables tables;
  TokenRotation rotation;
  TokenNormParts norm_parts;
  float partial[2][kTokenGroups][kChunks][16];
};

// Places in scratch.
inline constexpr int kStreamBytes = kTokenHidden * 2;
inline constexpr int kExpertsX = kStreamBytes;
inline constexpr int kRouterZ = 2 * kStreamBytes;
static_assert(kRouterZ + kTokenHidden * 4 <= kTokenScratch);
static_assert(kTokenExperts * kTokenWidthSteps * kStepBytesX + kTokenWorkers * 64 <= kTokenScratch);

// Barriers with numbers: 1 workers, kFirstGroup … groups, then pairs of them; workers and helper:
inline constexpr int kWithHelper = kWorkerThreads + kWarp;
inline constexpr int kZIsThere = 4;
inline constexpr int kChosen = 5;
inline constexpr int kLayerDone = 6;

template <int kId>
__device__ __forceinline__ void arrive_all() {
  __threadfence_block();
  asm volatile("bar.arrive %0, %1;" ::"n"(kId), "n"(kWithHelper) : "memory");
}

/// The number of what is told of the step's first layer.
__device__ __forceinline__ uint32_t first_number(const OneTokenArgs& args) {
  return args.steps[blockIdx.x] * static_cast<uint32_t>(args.count) + 1;
}

/// Asks L2 for the layer's vectors, a line of each by a CTA.
__device__ __forceinline__ void ask_for_vectors(const OneTokenLayer& layer) {
  constexpr int kLines = kTokenHidden * 4 / 128;
  const int line = static_cast<int>(blockIdx.x);
  const float* const vectors[] = {layer.attention_norm, layer.dense_norm,     layer.experts_norm,
                                  layer.router_scale,   layer.dense_out_norm, layer.sparse_out_norm,
                                  layer.out_norm};
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
#pragma unroll
  for (int i = 0; i < 7; ++i) {
    if (lane == i && line < kLines)
      asm volatile("prefetch.global.L2 [%0];" ::"l"(vectors[i] + line * 32));
  }
}

/// Asks L1 for what the choice will read of all experts.
__device__ __forceinline__ void ask_for_experts(const OneTokenLayer& layer, int count) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int bytes = count * static_cast<int>(sizeof(ExpertPointers));
  for (int at = lane * 128; at < bytes; at += kWarp * 128)
    asm volatile(
        "prefetch.global.L1 [%0];" ::"l"(reinterpret_cast<const uint8_t*>(layer.experts) + at));
}

/// The router's share of a CTA, and the choice.
__device__ __forceinline__ void help(const OneTokenArgs& args, TokenShared& shared) {
  TokenTables& tables = shared.tables;
  const int expert = static_cast<int>(blockIdx.x);
  const bool has_expert = expert < args.experts;
  const auto* z = reinterpret_cast<const float*>(shared.scratch + kRouterZ);
  const uint32_t first = first_number(args);
  for (int index = 0; index < args.count; ++index) {
    const int lane = thread_now() % kWarp;
    if (index > 0) {
      bar_sync<kLayerDone, kWithHelper>();
      if (index + 1 < args.count) {
        const auto* from = reinterpret_cast<const uint4*>(args.layers + index + 1);
        auto* to = reinterpret_cast<uint4*>(&tables.layers[(index + 1) % 2]);
        for (int i = lane; i < static_cast<int>(sizeof(OneTokenLayer) / 16); i += kWarp)
          to[i] = __ldg(from + i);
      }
      __syncwarp();
    }
    const OneTokenLayer& layer = tables.layers[index % 2];
    uint4 row[kMostEights];
    const auto* proj =
        reinterpret_cast<const uint4*>(layer.router + int64_t{expert} * kTokenHidden * 2);
#pragma unroll
    for (int i = 0; i < kMostEights; ++i) {
      const int eight = lane + i * kWarp;
      row[i] = has_expert ? __ldg(proj + eight) : uint4{};
    }
    ask_for_vectors(layer);
    bar_sync<kZIsThere, kWithHelper>();
    if (has_expert) {
      float sum = 0.0F;
#pragma unroll
      for (int i = 0; i < kMostEights; ++i) {
        const int eight = lane + i * kWarp;
        sum = add_eight(sum, *reinterpret_cast<const float4*>(z + eight * 8),
                        *reinterpret_cast<const float4*>(z + eight * 8 + 4), row[i]);
      }
      sum = warp_sum(sum);
      if (lane == 0) tell(args.rooms.logits + expert, sum, first + index);
    }
    ask_for_experts(layer, args.experts);
    constexpr int kEach = kMostStreamExperts / kWarp;
    float logits[kEach];
    float scales[kEach];
#pragma unroll
    for (int i = 0; i < kEach; ++i)
      scales[i] = __ldg(layer.per_expert_scale + min(lane + i * kWarp, args.experts - 1));
    hear<kEach>(
        first + index,
        [&](int i) { return args.rooms.logits + min(lane + i * kWarp, args.experts - 1); },
        [&](int i, uint32_t value) { logits[i] = __uint_as_float(value); });
    const ChosenExpert chosen =
        pick_experts<kEach>([&](int i) { return logits[i]; }, args.experts, args.top_k);
    if (lane < args.top_k) tables.choice.pointers[lane] = layer.experts[chosen.expert];
    __syncwarp();
    __threadfence_block();
    if (lane == 0) tables.chosen = index + 1;  // so that copies begin
    float scale = 0.0F;
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      const float of = __shfl_sync(kAllLanes, scales[i], static_cast<int>(chosen.expert) % kWarp);
      if (static_cast<int>(chosen.expert) / kWarp == i) scale = of;
    }
    const float weight = weigh_expert(chosen, scale, args.top_k);
    if (lane < args.top_k) tables.choice.weights[lane] = weight;
    arrive_all<kChosen>();
  }
}

}  // namespace facet::cuda
