#pragma once

// What CTAs of few_tokens tell each other of attention, and how it is joined. The bits of
// attention_join.cuh.

#include "kernels/cuda/attention_join.cuh"
#include "kernels/cuda/few_tokens_ring.cuh"
#include "kernels/cuda/few_tokens_words.cuh"

namespace facet::cuda {

/// Partial results of a kind's heads: of each head's pieces the values, [head_dim], and of all
/// heads' pieces the state, maximum and sum.
struct TokenPartials {
  uint2* values;
  uint2* states;
  int pieces;
  int head_dim;

  __device__ TokenPartials(const FewTokensArgs& args, const FewTokensKind& kind, int token)
      : values(args.rooms.partials +
               int64_t{token} * kind.q_heads * kind.pieces * (kind.head_dim + 2)),
        states(values + int64_t{kind.q_heads} * kind.pieces * kind.head_dim),
        pieces(kind.pieces),
        head_dim(kind.head_dim) {}

  __device__ uint2* value(int head, int piece) const {
    return values + (int64_t{head} * pieces + piece) * head_dim;
  }
  __device__ uint2* state(int head, int piece) const {
    return states + (int64_t{head} * pieces + piece) * 2;
  }
};

/// Pieces that are joined at a time, and parts of a CTA that join 32 components of a head each.
inline constexpr int kJoined = kWarp;
template <int T>
struct TokenJoin {
  static constexpr int kJoiners = T == 1 ? 2 : T;
  static constexpr int kWarps = kTokenWorkers / kJoiners;  // of each
  static constexpr int kEach = kJoined / kWarps;           // pieces of a warp
  float values[kJoiners][kJoined][kWarp];
};

/// Joins all CTAs' partial results of all tokens. All workers: those of a part look for the pieces
/// of 32 components of a head, the first of them joins them.
template <int T>
__device__ __forceinline__ void join_token(const FewTokensArgs& args,
                                           const TokenTables<T>& tables,
                                           const FewTokensLayer& layer,
                                           uint32_t number,
                                           uint8_t* scratch) {
  using Join = TokenJoin<T>;
  constexpr int kEach = Join::kEach;
  const int kind_index = read_anew(layer.kind);
  const FewTokensKind& kind = args.kinds[kind_index];
  const int units_bits = kind.head_dim == 512 ? 4 : 3;  // units of 32 components in a head: 2^…
  const int lane = thread_now() % kWarp;
  const int joiner = token_warp() / Join::kWarps;
  const int warp = token_warp() % Join::kWarps;
  auto& values = reinterpret_cast<Join*>(scratch)->values[joiner];
  const auto grid = static_cast<int>(gridDim.x);
  const int units = kind.q_heads << units_bits;  // of a token
  bool first_turn = true;
#pragma unroll 1
  for (int first = static_cast<int>(blockIdx.x); first < units * tokens_of<T>(args);
       first += Join::kJoiners * grid) {
    const int unit = first + joiner * grid;
    const bool any = unit < units * tokens_of<T>(args);
    const int token = T == 1 || !any ? 0 : unit / units;
    const TokenTask& task = tables.tasks[kind_index][token];
    const TokenPartials from(args, kind, token);
    const bool spans = task.parts_a_piece == 1;  // of kSpanParts pieces
    const int head = any ? (unit >> units_bits) - token * kind.q_heads : 0;
    const int component = unit % (1 << units_bits) * kWarp + lane;
    float carried = -INFINITY;
    JoinedValue joined;
    if (first_turn) sync_workers();  // nobody reads there any more
    first_turn = false;
    // Pieces of the first span that the pair does not see have negative numbers.
#pragma unroll 1
    for (int base = spans ? -(task.first_piece % kSpanParts) : 0; any && base < task.pieces;
         base += kJoined) {
      const auto there = [&](int piece) { return min(max(base + piece, 0), task.pieces - 1); };
      PairState mine;
      sync_warps(Join::kWarps, joiner);  // nobody reads there any more
      hear<kEach>(
          number, [&](int i) { return from.value(head, there(warp * kEach + i)) + component; },
          [&](int i, uint32_t value) { values[warp * kEach + i][lane] = __uint_as_float(value); });
      if (warp == 0) {
        const uint2* state = from.state(head, there(lane));
        hear<2>(
            number, [&](int i) { return state + i; },
            [&](int i, uint32_t value) {
              (i == 0 ? mine.max : mine.sum) = __uint_as_float(value);
            });
      }
      sync_warps(Join::kWarps, joiner);
      if (warp != 0) continue;
      const int end = min(task.pieces - base, kJoined);
      if (base + lane < 0 || lane >= end) mine = {};
      if (spans) {
        const LaneFactors f = find_factors<kSpanParts>(mine, carried);
#pragma unroll kSpanParts
        for (int at = 0; at < kJoined; ++at) {
          if (at % kSpanParts == 0 && at >= end) break;
          joined.add(values[at][lane], f, at, at % kSpanParts == kSpanParts - 1);
        }
      } else {
        const LaneFactors f = find_factors<1>(mine, carried);
#pragma unroll 1
        for (int at = 0; at < end; ++at) joined.add(values[at][lane], f, at, true);
      }
    }
    if (!any || warp != 0) continue;
    const float value = joined.result();
    const float next = __shfl_down_sync(kAllLanes, value, 1);
    if (lane % 2 == 0)
      tell(args.rooms.attended + ((token * kind.q_heads + head) * kind.head_dim + component) / 2,
           pack_bf16(value, next), number);
  }
}

}  // namespace facet::cuda
