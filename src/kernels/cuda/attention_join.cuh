#pragma once

// Partial results of attention, and how the pieces (parts, or spans) of a pair become one: in the
// order of attention.h, whichever they are.

#include "kernels/cuda/attention_parts.cuh"

namespace facet::cuda {

/// Partial results of the pieces of each pair.
struct Partials {
  float* values = nullptr;      // [rows, q_heads, pieces, head_dim]
  PairState* states = nullptr;  // [rows, q_heads, pieces]
  int32_t pieces = 0;
};

/// Pieces of kParts parts that a tile sees.
template <int kParts>
struct Pieces {
  int first;
  int count;
  __device__ explicit Pieces(const TileRows& rows)
      : first(rows.first_part() / kParts), count(rows.last_part() / kParts - first + 1) {}
};

/// What a lane has of the pieces: its own piece's factors within the span, the span's among spans.
/// A negative `now` says that there is nothing to join.
struct LaneFactors {
  float old;
  float now;
  float span_old;
  float span_now;
  float span_sum;  // times span_now
};

/// A lane's factors from its piece's state. Lanes are kOf to a span, a span begins with lane 0;
/// `carried`, the maximum of all before, takes in this warp's.
template <int kOf>
__device__ LaneFactors find_factors(const PairState& mine, float& carried) {
  const int lane = threadIdx.x % kWarp;
  const int begin = lane / kOf * kOf;
  float before = -INFINITY;
#pragma unroll
  for (int i = 1; i < kOf; ++i) {
    const float other = __shfl_up_sync(kAllLanes, mine.max, i);
    if (lane - begin >= i) before = fmaxf(before, other);
  }
  PairState state = {before, 0.0F};
  const JoinFactors f = join(state, mine.max, 0.0F);
  LaneFactors out = {f.old, f.any ? f.now : -1.0F, 1.0F, -1.0F, 0.0F};
  PairState span = {__shfl_sync(kAllLanes, state.max, begin + kOf - 1), 0.0F};
  const float weighted = __fmul_rn(mine.sum, f.now);
#pragma unroll
  for (int i = 0; i < kOf; ++i) {
    const float old = __shfl_sync(kAllLanes, out.old, begin + i);
    const float now = __shfl_sync(kAllLanes, out.now, begin + i);
    const float sum = __shfl_sync(kAllLanes, weighted, begin + i);
    const float joined = fmaf(span.sum, old, sum);
    span.sum = now >= 0.0F ? joined : span.sum;
  }
  float running = mine.max;  // of this lane and those before it
#pragma unroll
  for (int i = 1; i < kWarp; i *= 2) {
    const float other = __shfl_up_sync(kAllLanes, running, i);
    if (lane >= i) running = fmaxf(running, other);
  }
  const float spans_before = __shfl_sync(kAllLanes, running, max(begin - 1, 0));
  PairState total = {begin == 0 ? carried : fmaxf(carried, spans_before), 0.0F};
  const JoinFactors g = join(total, span.max, 0.0F);
  out.span_old = g.old;
  out.span_now = g.any ? g.now : -1.0F;
  out.span_sum = __fmul_rn(span.sum, g.now);
  carried = fmaxf(carried, __shfl_sync(kAllLanes, running, kWarp - 1));
  return out;
}

/// What a lane's component has come to: the span under way, and all spans before.
struct JoinedValue {
  float all = 0.0F;
  float sum = 0.0F;
  float part = 0.0F;

  /// Joins a piece's value, whose factors lane `at` has; ends_span: it is the last of its span.
  __device__ __forceinline__ void add(float value, const LaneFactors& f, int at, bool ends_span) {
    const float old = __shfl_sync(kAllLanes, f.old, at);
    const float now = __shfl_sync(kAllLanes, f.now, at);
    const float joined = fmaf(part, old, __fmul_rn(value, now));
    part = now >= 0.0F ? joined : part;
    if (!ends_span) return;
    const float span_old = __shfl_sync(kAllLanes, f.span_old, at);
    const float span_now = __shfl_sync(kAllLanes, f.span_now, at);
    const float span_sum = __shfl_sync(kAllLanes, f.span_sum, at);
    const float new_all = fmaf(all, span_old, __fmul_rn(part, span_now));
    const float new_sum = fmaf(sum, span_old, span_sum);
    all = span_now >= 0.0F ? new_all : all;
    sum = span_now >= 0.0F ? new_sum : sum;
    part = 0.0F;
  }
  __device__ float result() const { return all / sum; }
};

/// Joins `count` pieces of one pair, numbered from `first`, by one warp: a component a lane, whose
/// result is returned. state_of(i) and value_of(i), of the i-th of them, are asked for up to
/// kAtOnce at a time, some of them without use. No branches: the loads are under way together.
template <int kParts, int kAtOnce, typename StateOf, typename ValueOf>
__device__ float join_pieces(int first,
                             int count,
                             const StateOf& state_of,
                             const ValueOf& value_of) {
  constexpr int kOf = kSpanParts / kParts;  // pieces of a span
  static_assert(kAtOnce % kOf == 0);
  constexpr int kLanes = kWarp / kAtOnce * kAtOnce;  // that have a piece
  const int lane = threadIdx.x % kWarp;
  float carried = -INFINITY;
  JoinedValue joined;
  // Pieces of the first span that the pair does not see have negative numbers.
  for (int base = -(first % kOf); base < count; base += kLanes) {
    const int end = min(count - base, kLanes);
    float values[kAtOnce];
    const auto fetch = [&](int from) {
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i)
        values[i] = value_of(min(max(base + from + i, 0), count - 1));
    };
    PairState mine = state_of(min(max(base + lane, 0), count - 1));
    fetch(0);
    if (base + lane < 0 || lane >= end) mine = {};
    const LaneFactors f = find_factors<kOf>(mine, carried);
    for (int from = 0; from < end; from += kAtOnce) {
      if (from > 0) fetch(from);
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) {
        // From `end` on there is nothing to join.
        joined.add(values[i], f, from + i, (i + 1) % kOf == 0);
      }
    }
  }
  return joined.result();
}

/// The same from partial results in memory, read past L1: other SMs may have written them just now.
template <int kParts, int kAtOnce>
__device__ float join_partials(
    const Partials& from, int64_t pair, const Pieces<kParts>& pieces, int head_dim, int component) {
  const PairState* states = from.states + pair * from.pieces;
  const float* values = from.values + pair * from.pieces * head_dim + component;
  return join_pieces<kParts, kAtOnce>(
      pieces.first, pieces.count,
      [&](int piece) {
        const float2 s = __ldcg(reinterpret_cast<const float2*>(states + piece));
        return PairState{s.x, s.y};
      },
      [&](int piece) { return __ldcg(values + int64_t{piece} * head_dim); });
}

constexpr int kJoinThreads = 128;

/// Joins the pieces of one pair (x: row of the run, y: head), a thread a component (z).
template <int kParts>
__global__ void __launch_bounds__(kJoinThreads) join_kernel(
    const AttentionArgs args, const RowRun run, int32_t tokens, Partials from, float factor) {
  const int64_t local = blockIdx.x;
  const auto head = static_cast<int>(blockIdx.y);
  const auto component = static_cast<int>(blockIdx.z * kJoinThreads + threadIdx.x);
  const TileRows rows = tile_rows(args, run, local / tokens, tokens, 0);
  const Pieces<kParts> pieces(rows);
  wait_for_previous();
  let_next_begin();
  const float value = join_partials<kParts, 8>(from, local * args.q_heads + head, pieces,
                                               args.kv.head_dim, component);
  args.out[((run.first_row + local) * args.q_heads + head) * args.kv.head_dim + component] =
      __fmul_rn(value, factor);
}

}  // namespace facet::cuda
