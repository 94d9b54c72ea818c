#pragma once

// Partial results of attention, and how the pieces (parts, or spans) of a pair become one: in the
// order of attention.h, whichever they are.

#include "kernels/cuda/attention_tiles.cuh"

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
  /// Whether a span ends with piece i of them.
  __device__ bool ends_span(int i) const {
    return kParts == kSpanParts || (first + i + 1) % kSpanParts == 0 || i + 1 == count;
  }
};

/// A pair's result at four components, from all pieces. Reads past L1: other SMs wrote them.
template <int kParts>
__device__ inline float4 join_few(
    const Partials& from, int64_t pair, const Pieces<kParts>& pieces, int head_dim, int column) {
  constexpr int kAtOnce = 8;
  const PairState* states = from.states + pair * from.pieces;
  const float* values = from.values + pair * from.pieces * head_dim + column;
  PairState total;
  PairState span;
  float4 all = {0.0F, 0.0F, 0.0F, 0.0F};
  float4 part = all;
  for (int base = 0; base < pieces.count; base += kAtOnce) {
    float2 state[kAtOnce];
    float4 value[kAtOnce];
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      const int at = min(base + i, pieces.count - 1);
      state[i] = __ldcg(reinterpret_cast<const float2*>(states + at));
      value[i] = __ldcg(reinterpret_cast<const float4*>(values + int64_t{at} * head_dim));
    }
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      if (base + i >= pieces.count) break;
      const JoinFactors f = join(span, state[i].x, state[i].y);
      join(part.x, value[i].x, f), join(part.y, value[i].y, f);
      join(part.z, value[i].z, f), join(part.w, value[i].w, f);
      if (!pieces.ends_span(base + i)) continue;
      const JoinFactors g = join(total, span.max, span.sum);
      join(all.x, part.x, g), join(all.y, part.y, g);
      join(all.z, part.z, g), join(all.w, part.w, g);
      span = {};
      part = {0.0F, 0.0F, 0.0F, 0.0F};
    }
  }
  return {all.x / total.sum, all.y / total.sum, all.z / total.sum, all.w / total.sum};
}

constexpr int kJoinThreads = 128;

/// Joins many pieces of one pair (x: row of the run, y: head), a thread a component (z). What the
/// pieces are multiplied by is found for 128 spans at a time, a thread a span.
template <int kParts>
__global__ void __launch_bounds__(kJoinThreads) join_kernel(
    const AttentionArgs args, const RowRun run, int32_t tokens, Partials from, float factor) {
  constexpr int kOf = kSpanParts / kParts;  // pieces of a span
  __shared__ float olds[kJoinThreads * kOf];
  __shared__ float nows[kJoinThreads * kOf];  // negative: the pair sees nothing of it
  __shared__ float maxima[kJoinThreads];
  __shared__ float sums[kJoinThreads];
  __shared__ float span_olds[kJoinThreads];
  __shared__ float span_nows[kJoinThreads];
  wait_for_previous();
  let_next_begin();
  const int thread = static_cast<int>(threadIdx.x);
  const int64_t local = blockIdx.x;
  const auto head = static_cast<int>(blockIdx.y);
  const int d = blockIdx.z * kJoinThreads + thread;
  const TileRows rows = tile_rows(args, run, local / tokens, tokens, 0);
  const Pieces<kParts> pieces(rows);
  if (pieces.count == 1) return;  // its block has written the result
  const int first_span = pieces.first / kOf;
  const int spans = (pieces.first + pieces.count - 1) / kOf - first_span + 1;
  const int64_t pair = local * args.q_heads + head;
  const PairState* states = from.states + pair * from.pieces;
  const float* values = from.values + pair * from.pieces * args.kv.head_dim + d;
  float before = -INFINITY;
  float sum = 0.0F;
  float value = 0.0F;
  for (int base = 0; base < spans; base += kJoinThreads) {
    const int here = min(spans - base, kJoinThreads);
    const int offset = (first_span + base) * kOf - pieces.first;  // of the first span's first piece
    PairState span;
    for (int i = 0; i < kOf; ++i) {
      const int at = offset + thread * kOf + i;
      if (thread >= here || at < 0 || at >= pieces.count) {
        nows[thread * kOf + i] = -1.0F;
        continue;
      }
      const PairState part = states[at];
      const JoinFactors f = join(span, part.max, part.sum);
      olds[thread * kOf + i] = f.old;
      nows[thread * kOf + i] = f.any ? f.now : -1.0F;
    }
    maxima[thread] = span.max;
    sums[thread] = span.sum;
    __syncthreads();
    PairState state = {before, 0.0F};
    for (int s = 0; s < thread; ++s) state.max = fmaxf(state.max, maxima[s]);
    const JoinFactors f = join(state, span.max, 0.0F);
    span_olds[thread] = f.old;
    span_nows[thread] = f.any ? f.now : -1.0F;
    __syncthreads();
#pragma unroll 4
    for (int s = 0; s < here; ++s) {
      float part = 0.0F;
#pragma unroll
      for (int i = 0; i < kOf; ++i) {
        const float now = nows[s * kOf + i];
        if (now < 0.0F) continue;
        const float other = values[int64_t{offset + s * kOf + i} * args.kv.head_dim];
        part = fmaf(part, olds[s * kOf + i], __fmul_rn(other, now));
      }
      before = fmaxf(before, maxima[s]);
      if (span_nows[s] < 0.0F) continue;
      value = fmaf(value, span_olds[s], __fmul_rn(part, span_nows[s]));
      sum = fmaf(sum, span_olds[s], __fmul_rn(sums[s], span_nows[s]));
    }
    __syncthreads();
  }
  args.out[((run.first_row + local) * args.q_heads + head) * args.kv.head_dim + d] =
      __fmul_rn(value / sum, factor);
}

}  // namespace facet::cuda
