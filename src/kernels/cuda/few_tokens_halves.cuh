#pragma once

// What the workers of few_tokens do with BF16 matrices, and how they hear what these multiply.

#include "kernels/cuda/activation.cuh"
#include "kernels/cuda/few_tokens_helper.cuh"

namespace facet::cuda {

/// The workers' products of halves of bands.
template <int T>
class TokenHalves {
 protected:
  using Sizes = TokenSizes<T>;
  static constexpr int kRounds = Sizes::kRounds;
  static constexpr int kMine = (8 * T + kWarp - 1) / kWarp;  // chunks' warps with results of 8 rows

  __device__ __forceinline__ TokenHalves(const FewTokensArgs& args, TokenShared<T>& shared)
      : args_(args),
        shared_(shared),
        tables_(shared.tables),
        ring_(shared.rings, token_warp()),
        first_(first_number(args)) {}

  /// The halves of a BF16 part.
  __device__ __forceinline__ void multiply(const FewTokensLayer& layer,
                                           TokenPart part,
                                           uint32_t number) {
    const TokenPlace place;
    multiply_halves(place, tables_.deal(args_, layer, part, place.group),
                    [&](int half, const float(&sums)[4], int parity) {
                      finish_half(place, layer, part, half, sums, parity, number);
                    });
  }
  /// Those of the head.
  __device__ __forceinline__ void multiply_head() {
    const TokenPlace place;
    multiply_halves(place, deal_head(args_, place.group),
                    [&](int half, const float(&sums)[4], int parity) {
                      finish_logits(place, half, sums, parity);
                    });
  }
  /// finish(half, sums, parity) for each half, in all threads of the group.
  template <class Finish>
  __device__ __forceinline__ void multiply_halves(const TokenPlace& place,
                                                  const TokenDeal& halves,
                                                  const Finish& finish) {
    const int begin = token_chunk_begin(halves.steps, place.chunk);
    const int steps = token_chunk_begin(halves.steps, place.chunk + 1) - begin;
    const uint8_t* x = shared_.scratch +
                       row_of_x<T>(place.lane, Sizes::row_bytes(halves.steps * kStep)) +
                       begin * kStepBytesX;
    int parity = 0;  // the same in both groups of a pair
#pragma unroll 1
    for (int half = halves.first; half < halves.end; half += halves.next) {
      float sums[4] = {};
      add_half(sums, x, steps, unit_of_lane(place.lane));
      finish(half, sums, parity);
      parity ^= 1;
    }
  }
  /// o where its x does not fit at once: of each chunk a part. A group has one half at most.
  __device__ __forceinline__ void multiply_rounds(const FewTokensLayer& layer, uint32_t number) {
    const TokenPlace place;
    const TokenDeal halves = tables_.deal(args_, layer, TokenPart::kO, place.group);
    const int steps = halves.steps / kChunks / kRounds;
    const uint8_t* x = shared_.scratch +
                       row_of_x<T>(place.lane, Sizes::row_bytes(halves.steps / kRounds * kStep)) +
                       place.chunk * steps * kStepBytesX;
    float sums[4] = {};
#pragma unroll 1
    for (int round = 0; round < kRounds; ++round) {
      stage(args_.rooms.attended, halves.steps * kStep, kRounds, round, number);
      sync_workers();
      if (halves.first < halves.end) add_half(sums, x, steps, unit_of_lane(place.lane));
    }
    if (halves.first < halves.end)
      finish_half(place, layer, TokenPart::kO, halves.first, sums, 0, number);
  }
  /// scratch = rows of BF16 that other CTAs tell, or one of so many rounds of them; nobody reads
  /// there any more.
  __device__ __forceinline__ void stage(
      const uint2* from, int cols, int rounds, int round, uint32_t number) {
    constexpr int kWords = 4;  // of two BF16 each, in 16 bytes
    constexpr int kAtOnce = T == 1 ? 1 : T == 8 ? 3 : 2;
    const int of_row = cols / 8 / rounds;
    const int count = of_row * tokens_of<T>(args_);
    bool first = true;
#pragma unroll 1
    for (int base = thread_now(); first || base < count; base += kAtOnce * kWorkerThreads) {
      int places[kAtOnce];  // in `from`
      uint8_t* to[kAtOnce];
      uint32_t packed[kAtOnce][kWords];
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) {
        const int at = min(base + i * kWorkerThreads, count - 1);
        const int token = T == 1 ? 0 : at / of_row;
        int eight = at - token * of_row;
        to[i] = shared_.scratch + token * Sizes::row_bytes(cols / rounds) + eight * 16;
        if (rounds > 1) {
          const int of_chunk = of_row / kChunks;
          eight += (eight / of_chunk * (rounds - 1) + round) * of_chunk;
        }
        places[i] = token * cols / 2 + eight * kWords;
      }
      hear<kAtOnce * kWords>(
          number, [&](int i) { return from + places[i / kWords] + i % kWords; },
          [&](int i, uint32_t value) { packed[i / kWords][i % kWords] = value; });
      if (first) sync_workers();
      first = false;
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) {
        if (base + i * kWorkerThreads < count)
          *reinterpret_cast<uint4*>(to[i]) = {packed[i][0], packed[i][1], packed[i][2],
                                              packed[i][3]};
      }
    }
  }

  const FewTokensArgs& args_;
  TokenShared<T>& shared_;
  const TokenTables<T>& tables_;
  TokenRing<T> ring_;
  const uint32_t first_;  // number of the step's first layer

 private:
  __device__ __forceinline__ void add_half(float (&sums)[4],
                                           const uint8_t* x,
                                           int steps,
                                           int unit) {
#pragma unroll 1
    for (int step = 0; step < steps; step += Sizes::kSteps) {
      add_slot<Sizes::kSteps>(sums, ring_.wait() + unit, x, min(Sizes::kSteps, steps - step));
      ring_.release();
      x += Sizes::kSteps * kStepBytesX;
    }
  }
  /// Adds up a half's chunks and tells the result: rows and tokens are dealt to the threads of the
  /// group's first warps.
  __device__ __forceinline__ void finish_half(const TokenPlace& place,
                                              const FewTokensLayer& layer,
                                              TokenPart part,
                                              int half,
                                              const float (&sums)[4],
                                              int parity,
                                              uint32_t number) {
    auto& partial = shared_.partial[parity];
    store_sums<T>(partial[place.group][place.chunk][row_of_lane(place.lane)], place.lane, sums[0],
                  sums[1]);
    const int index = place.chunk * kWarp + place.lane;
    const int row = index % 8;
    const int token = index / 8;
    const bool mine = token < tokens_of<T>(args_);
    if (part == TokenPart::kGateUp) {
      sync_warps(2 * kChunks, place.group / 2);
      if (place.chunk >= kMine || place.group % 2 != 0) return;
      const float up = mine ? sum_chunks<T>(partial[place.group + 1], row, token) : 0.0F;
      const float gate = mine ? sum_chunks<T>(partial[place.group], row, token) : 0.0F;
      const float value = __fmul_rn(apply(args_.function, gate), up);
      const float next = __shfl_down_sync(kAllLanes, value, 1);
      if (mine && row % 2 == 0)
        tell(args_.rooms.inner + (token * args_.dense_width + half * 8 + row) / 2,
             pack_bf16(value, next), number);
    } else {
      sync_group(place.group);
      if (place.chunk >= kMine || !mine) return;
      const float sum = sum_chunks<T>(partial[place.group], row, token);
      tell(out_of(layer, part, half * 8, token) + row, sum, number);
      if (part == TokenPart::kDown) args_.dense[token * kTokenHidden + half * 8 + row] = sum;
    }
  }
  /// Adds up a half's chunks and stores its logits, dealt to threads likewise.
  __device__ __forceinline__ void finish_logits(const TokenPlace& place,
                                                int half,
                                                const float (&sums)[4],
                                                int parity) {
    auto& partial = shared_.partial[parity][place.group];
    store_sums<T>(partial[place.chunk][row_of_lane(place.lane)], place.lane, sums[0], sums[1]);
    sync_group(place.group);
    const int index = place.chunk * kWarp + place.lane;
    const int row = index % 8;
    const int token = index / 8;
    if (token >= tokens_of<T>(args_)) return;
    const FewTokensHead& head = args_.head;
    const float sum = sum_chunks<T>(partial, row, token);
    head.logits[int64_t{token} * head.rows + half * 8 + row] =
        head.cap > 0 ? soft_capped(sum, head.cap) : sum;
  }
  /// Where the result of a part's row goes.
  __device__ __forceinline__ uint2* out_of(const FewTokensLayer& layer,
                                           TokenPart part,
                                           int row,
                                           int token) const {
    if (part == TokenPart::kO) return args_.rooms.branch + token * kTokenHidden + row;
    if (part == TokenPart::kDown) return args_.rooms.dense + token * kTokenHidden + row;
    const FewTokensKind& kind = args_.kinds[layer.kind];
    const int q_rows = kind.q_heads * kind.head_dim;
    const int kv_rows = kind.kv_heads * kind.head_dim;
    if (row < q_rows) return args_.rooms.q + token * q_rows + row;
    row -= q_rows;
    if (row < kv_rows) return args_.rooms.k + token * kv_rows + row;
    return args_.rooms.v + token * kv_rows + row - kv_rows;
  }
};

}  // namespace facet::cuda
