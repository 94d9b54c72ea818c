#pragma once

// What the warps of few_tokens share, and the warp that routes.

#include "kernels/cuda/few_tokens_cells.cuh"
#include "kernels/cuda/few_tokens_products.cuh"

namespace facet::cuda {

inline constexpr int kMostEights = kTokenHidden / 8 / kWarp;  // of a lane in a row of the router

template <int T>
struct TokenShared {
  TokenRings<T> rings;
  alignas(128) uint8_t scratch[TokenSizes<T>::kScratch];
  alignas(16) TokenTables<T> tables;
  TokenRotation<T> rotation;
  TokenNormParts norm_parts;
  /// Of two bands in turn; of experts_down() the results of kBandsAtOnce bands instead,
  /// [pairs][16 rows] each.
  alignas(16) TokenPartial<T> partial[2][kTokenGroups];

  static_assert(sizeof(TokenAttention) <= TokenSizes<T>::kScratch &&
                kCellRoom * TokenSizes<T>::kCells <= TokenSizes<T>::kScratch &&
                sizeof(TokenJoin<T>) <= TokenSizes<T>::kScratch);
  static_assert(kBandsAtOnce * TokenSizes<T>::kPairs * 16 * sizeof(float) <= sizeof(partial));
};

// Barriers with numbers: 1 workers, kFirstGroup … groups, then pairs of them, or eight twos;
// workers and helper:
inline constexpr int kWithHelper = kWorkerThreads + kWarp;
inline constexpr int kZIsThere = 4;
inline constexpr int kChosen = 5;
inline constexpr int kLayerDone = 6;
inline constexpr int kZWasRead = 7;

template <int kId>
__device__ __forceinline__ void arrive_all() {
  __threadfence_block();
  asm volatile("bar.arrive %0, %1;" ::"n"(kId), "n"(kWithHelper) : "memory");
}

/// The number of what is told of the step's first layer.
__device__ __forceinline__ uint32_t first_number(const FewTokensArgs& args) {
  return args.done[blockIdx.x] + 1;
}

/// What no kernel writes, asked for here and not where it is first needed.
__device__ __forceinline__ uint4 load_now(const uint4* from) {
  uint4 v;
  asm volatile("ld.global.nc.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "l"(from)
               : "memory");
  return v;
}

/// Asks L2 for the layer's vectors, a line of each by a CTA.
__device__ __forceinline__ void ask_for_vectors(const FewTokensLayer& layer) {
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
__device__ __forceinline__ void ask_for_experts(const FewTokensLayer& layer, int count) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int bytes = count * static_cast<int>(sizeof(ExpertPointers));
  for (int at = lane * 128; at < bytes; at += kWarp * 128)
    asm volatile(
        "prefetch.global.L1 [%0];" ::"l"(reinterpret_cast<const uint8_t*>(layer.experts) + at));
}

/// Puts the experts of a token into the list, a lane each, those that are new at its end.
template <int T>
__device__ __forceinline__ int list_experts(TokenChoice<T>& choice,
                                            int token,
                                            int top_k,
                                            int count) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const bool chosen = lane < top_k;
  const int expert = choice.chosen[token][chosen ? lane : 0];
  int place = choice.place_of[expert];
  const bool fresh = chosen && place == TokenChoice<T>::kNone;
  const unsigned all_fresh = __ballot_sync(kAllLanes, fresh);
  if (fresh) {
    place = count + __popc(all_fresh & ((1U << lane) - 1));
    choice.place_of[expert] = static_cast<uint8_t>(place);
    *reinterpret_cast<uint2*>(choice.pair_of[place]) = {~0U, ~0U};
  }
  if (chosen) choice.pair_of[place][token] = static_cast<uint8_t>(token * top_k + lane);
  __syncwarp();
  return count + __popc(all_fresh);
}

/// Makes the list of all tokens' experts, but for their pointers. One warp.
template <int T>
__device__ __forceinline__ void list_all(const FewTokensArgs& args, TokenChoice<T>& choice) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  static_assert(sizeof(choice.place_of) == sizeof(uint32_t) * kWarp);
  reinterpret_cast<uint32_t*>(choice.place_of)[lane] = ~0U;
  __syncwarp();
  int count = 0;
#pragma unroll 1
  for (int token = 0; token < tokens_of<T>(args); ++token)
    count = list_experts<T>(choice, token, args.top_k, count);
  if (lane == 0) choice.count = count;
}

/// A token's choice, by one warp.
struct TokenPick {
  static constexpr int kEach = kMostStreamExperts / kWarp;
  ChosenExpert chosen;
  float scales[kEach];

  /// From the words of the logits.
  __device__ __forceinline__ void pick(const FewTokensArgs& args,
                                       const FewTokensLayer& layer,
                                       int token,
                                       uint32_t number) {
    const int lane = static_cast<int>(threadIdx.x) % kWarp;
#pragma unroll
    for (int i = 0; i < kEach; ++i)
      scales[i] = __ldg(layer.per_expert_scale + min(lane + i * kWarp, args.experts - 1));
    float logits[kEach];
    const uint2* words = args.rooms.logits + token * args.experts;
    hear<kEach>(
        number, [&](int i) { return words + min(lane + i * kWarp, args.experts - 1); },
        [&](int i, uint32_t value) { logits[i] = __uint_as_float(value); });
    chosen = pick_experts<kEach>([&](int i) { return logits[i]; }, args.experts, args.top_k);
  }
  /// The weight of the lane's expert.
  __device__ __forceinline__ float weight(int top_k) const {
    const auto who = static_cast<int>(chosen.expert);
    float scale = 0.0F;
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      const float of = __shfl_sync(kAllLanes, scales[i], who % kWarp);
      if (who / kWarp == i) scale = of;
    }
    return weigh_expert(chosen, scale, top_k);
  }
};

/// The router's share of a CTA; the choice too if it is of one token.
template <int T>
__device__ __forceinline__ void help(const FewTokensArgs& args, TokenShared<T>& shared) {
  constexpr int kTogether = TokenSizes<T>::kTogether;
  TokenTables<T>& tables = shared.tables;
  TokenChoice<T>& choice = tables.choice;
  const int expert = static_cast<int>(blockIdx.x);
  const bool has_expert = expert < args.experts;
  const uint32_t first = first_number(args);
  for (int index = 0; index < args.count; ++index) {
    const int lane = thread_now() % kWarp;
    if (index > 0) {
      bar_sync<kLayerDone, kWithHelper>();
      if (index + 1 < args.count) {
        const auto* from = reinterpret_cast<const uint4*>(args.layers + index + 1);
        auto* to = reinterpret_cast<uint4*>(&tables.layers[(index + 1) % 2]);
        for (int i = lane; i < static_cast<int>(sizeof(FewTokensLayer) / 16); i += kWarp)
          to[i] = __ldg(from + i);
      }
      __syncwarp();
    }
    const FewTokensLayer& layer = tables.layers[index % 2];
    ask_for_vectors(layer);
    uint4 row[kMostEights];
    const auto* proj = reinterpret_cast<const uint4*>(
        layer.router + int64_t{has_expert ? expert : 0} * kTokenHidden * 2);
#pragma unroll
    for (int i = 0; i < kMostEights; ++i) {
      const int eight = lane + i * kWarp;
      row[i] = load_now(proj + (has_expert ? eight : 0));
    }
#pragma unroll 1
    for (int token = 0; token < tokens_of<T>(args); ++token) {
      if (token % kTogether == 0) bar_sync<kZIsThere, kWithHelper>();
      if (has_expert) {
        const auto* z = reinterpret_cast<const float*>(shared.scratch + TokenSizes<T>::kRouterZ) +
                        token % kTogether * kTokenHidden;
        float sum = 0.0F;
#pragma unroll
        for (int i = 0; i < kMostEights; ++i) {
          const int eight = lane + i * kWarp;
          sum = add_eight(sum, *reinterpret_cast<const float4*>(z + eight * 8),
                          *reinterpret_cast<const float4*>(z + eight * 8 + 4), row[i]);
        }
        sum = warp_sum(sum);
        if (lane == 0) tell(args.rooms.logits + token * args.experts + expert, sum, first + index);
      }
      if (token % kTogether == kTogether - 1 && token + 1 < tokens_of<T>(args))
        arrive_all<kZWasRead>();
    }
    ask_for_experts(layer, args.experts);
    if constexpr (T == 1) {
      TokenPick pick;
      pick.pick(args, layer, 0, first + index);
      if (lane < args.top_k) choice.pointers[lane] = layer.experts[pick.chosen.expert];
      __threadfence_block();
      __syncwarp();
      if (lane == 0)  // so that copies begin
        choice.known = index + 1;
      const float weight = pick.weight(args.top_k);
      if (lane < args.top_k) choice.weights[0][lane] = weight;
    }
    arrive_all<kChosen>();  // of several tokens: it is no layer behind
  }
}

}  // namespace facet::cuda
