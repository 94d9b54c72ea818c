#pragma once

// The experts of few_tokens: the list of those that are chosen, and their products.

#include "kernels/cuda/few_tokens_halves.cuh"

namespace facet::cuda {

template <int T>
class TokenExperts : public TokenHalves<T> {
  using Base = TokenHalves<T>;
  using Sizes = TokenSizes<T>;

 protected:
  using Base::args_;
  using Base::Base;
  using Base::first_;
  using Base::kMine;
  using Base::ring_;
  using Base::shared_;
  using Base::tables_;

  /// Makes the list of the experts that are chosen, a warp a token, unless the helper does.
  __device__ __forceinline__ void choose(const FewTokensLayer& layer, uint32_t number) const {
    if constexpr (T == 1) {
      bar_sync<kChosen, kWithHelper>();
    } else {
      TokenChoice<T>& choice = shared_.tables.choice;
      const TokenPlace place;
      ExpertPointers pointers;  // of the lane's expert
      if (place.warp < tokens_of<T>(args_)) {
        TokenPick pick;
        pick.pick(args_, layer, place.warp, number);
        pointers = layer.experts[pick.chosen.expert];
        const float weight = pick.weight(args_.top_k);
        if (place.lane < args_.top_k) {
          choice.chosen[place.warp][place.lane] = static_cast<int>(pick.chosen.expert);
          choice.weights[place.warp][place.lane] = weight;
        }
      }
      bar_sync<kChosen, kWithHelper>();
      if (place.warp == 0) list_all<T>(args_, choice);
      sync_workers();
      if (place.warp < tokens_of<T>(args_) && place.lane < args_.top_k)
        choice.pointers[choice.place_of[choice.chosen[place.warp][place.lane]]] = pointers;
      __threadfence_block();
      sync_workers();
      if (thread_now() == 0)  // so that copies begin
        choice.known = static_cast<int>(number - first_) + 1;
    }
  }

  /// Gate and up of the experts.
  __device__ __forceinline__ void experts(const FewTokensLayer& layer, uint32_t number) {
    const TokenPlace place;
    const TokenDeal bands = tables_.deal(args_, layer, TokenPart::kExperts, place.group);
    const TokenChoice<T>& choice = tables_.choice;
    const int of_expert = args_.expert_width / 8;
    const int end = choice.count * of_expert;
    const int begin = token_chunk_begin(bands.steps, place.chunk);
    const int steps = token_chunk_begin(bands.steps, place.chunk + 1) - begin;
    const uint8_t* x_at = shared_.scratch + Sizes::kExpertsX +
                          row_of_x<T>(place.lane, Sizes::row_bytes(kTokenHidden)) +
                          begin * kStepBytesX;
    int parity = 0;
#pragma unroll 1
    for (int at = bands.first; at < end; at += bands.next) {
      float sums[4] = {};
#pragma unroll 1
      for (int step = 0; step < steps; step += Sizes::kTiles) {
        add_tiles<Sizes::kTiles>(sums, ring_.wait(), x_at + step * kStepBytesX,
                                 min(Sizes::kTiles, steps - step));
        ring_.release();
      }
      auto& partial = shared_.partial[parity][place.group];
      parity ^= 1;
      store_sums<T>(partial[place.chunk][place.lane / 4], place.lane, sums[0], sums[1]);
      store_sums<T>(partial[place.chunk][place.lane / 4 + 8], place.lane, sums[2], sums[3]);
      sync_group(place.group);
      if (place.chunk >= kMine) continue;
      const int row = place.lane % 8;
      const int token = (place.chunk * kWarp + place.lane) / 8;
      const ExpertPointers& expert = choice.pointers[at / of_expert];
      const int pair = token < tokens_of<T>(args_) ? choice.pair_of[at / of_expert][token]
                                                   : int{TokenChoice<T>::kNone};
      const bool mine = pair != TokenChoice<T>::kNone;
      const float gate = mine ? sum_chunks<T>(partial, row, token) : 0.0F;
      const float up = mine ? sum_chunks<T>(partial, row + 8, token) : 0.0F;
      const float g = __fmul_rn(gate, __fmul_rn(expert.gate_scale, kNvfp4Gain));
      const float u = __fmul_rn(up, __fmul_rn(expert.up_scale, kNvfp4Gain));
      const float value = __fmul_rn(apply(args_.function, g), u);
      // Neighbours in the format's order are four columns apart.
      const float other = __shfl_down_sync(kAllLanes, value, 4);
      if (mine && row < 4) {
        const int f = at % of_expert * 8 + row;
        tell(
            args_.rooms.expert_inner + (pair * args_.expert_width + position_of<Nvfp4Steps>(f)) / 2,
            pack_bf16(value, other), number);
      }
    }
  }

  /// A CTA has bands of 16 rows of all listed experts: of one token kBandsAtOnce at a time, of
  /// several one, and its share of TokenSpread's. Its warps take the experts' bands in turn.
  __device__ __forceinline__ void experts_down(const FewTokensLayer& layer, uint32_t number) {
    const TokenPlace place;
    const int count = tables_.choice.count;
    stage_inner(number);
    const TokenDeal bands = tables_.deal(args_, layer, TokenPart::kExpertsDown, 0);
    if constexpr (T == 1) {
#pragma unroll 1
      for (int base = bands.first; base < bands.end; base += kBandsAtOnce * bands.next) {
        const int of_expert = min(kBandsAtOnce, (bands.end - base + bands.next - 1) / bands.next);
#pragma unroll 1
        for (int item = place.warp; item < count * of_expert; item += kTokenWorkers) {
          const int expert = item / of_expert;
          float sums[4] = {};
          multiply_down(place, expert, sums);
          store_down(place, expert, item % of_expert, sums);
        }
        add_experts(base, of_expert, bands.next, number);
      }
    } else {
      const TokenSpread spread;
      const int end = count + spread.count(count);
#pragma unroll 1
      for (int item = place.warp; item < end; item += kTokenWorkers) {
        const bool own = item < count;
        const int expert = own ? item : spread.expert(item - count);
        float sums[4] = {};
        multiply_down(place, expert, sums);
        if (own) {
          store_down(place, expert, 0, sums);
        } else {
          const int row = spread.band(item - count) * 16 + place.lane / 4;
          each_pair(place, expert, sums, [&](int pair, float low, float high) {
            uint2* to = args_.rooms.spread + pair * kTokenHidden + row;
            tell(to, low, number);
            tell(to + 8, high, number);
          });
        }
      }
      add_experts(bands.first, 1, 0, number);
    }
  }

 private:
  /// An expert's band of 16 rows, with the rows of the pairs that it is of.
  __device__ __forceinline__ void multiply_down(const TokenPlace& place,
                                                int expert,
                                                float (&sums)[4]) {
    const uint8_t* pair_of = tables_.choice.pair_of[expert];
    int pair = pair_of[place.lane / 4 % T];
#pragma unroll
    for (int t = 0; T > 1 && t < T; ++t) {
      // Columns of others read what some token has.
      if (pair == TokenChoice<T>::kNone) pair = pair_of[t];
    }
    const int steps = args_.expert_width / kStep;
    const uint8_t* x = shared_.scratch + pair * steps * kStepBytesX + place.lane % 4 * 16;
#pragma unroll 1
    for (int step = 0; step < steps; step += Sizes::kTiles) {
      add_tiles<Sizes::kTiles>(sums, ring_.wait(), x + step * kStepBytesX,
                               min(Sizes::kTiles, steps - step));
      ring_.release();
    }
  }
  /// with(pair, of row g, of row g + 8) of the tokens in the lane's columns that chose the expert.
  template <class With>
  __device__ __forceinline__ void each_pair(const TokenPlace& place,
                                            int expert,
                                            const float (&sums)[4],
                                            const With& with) const {
    const TokenChoice<T>& choice = tables_.choice;
    const float factor = __fmul_rn(choice.pointers[expert].down_scale, kNvfp4Gain);
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int token = place.lane % 4 * 2 + i;
      const int pair =
          token < tokens_of<T>(args_) ? choice.pair_of[expert][token] : int{TokenChoice<T>::kNone};
      if (pair == TokenChoice<T>::kNone) continue;
      with(pair, __fmul_rn(__fadd_rn(0.0F, sums[i]), factor),
           __fmul_rn(__fadd_rn(0.0F, sums[i + 2]), factor));
    }
  }
  /// Results of the nth of the CTA's bands, [pairs][16 rows].
  __device__ __forceinline__ float* results_of(int nth) const {
    return reinterpret_cast<float*>(shared_.partial) + nth * Sizes::kPairs * 16;
  }
  __device__ __forceinline__ void store_down(const TokenPlace& place,
                                             int expert,
                                             int nth,
                                             const float (&sums)[4]) const {
    float* to = results_of(nth) + place.lane / 4;
    each_pair(place, expert, sums, [&](int pair, float low, float high) {
      to[pair * 16] = low;
      to[pair * 16 + 8] = high;
    });
  }
  /// Adds up what each token's experts gave in `count` bands, and tells it.
  __device__ __forceinline__ void add_experts(int first, int count, int next, uint32_t number) {
    sync_workers();
    const int index = thread_now();
    const int token = index / 16 / kBandsAtOnce;
    const int nth = index / 16 % kBandsAtOnce;
    if (token < tokens_of<T>(args_) && nth < count) {
      const float* from = results_of(nth) + token * args_.top_k * 16 + index % 16;
      float sum = 0.0F;
      for (int j = 0; j < args_.top_k; ++j)
        sum = __fmaf_rn(tables_.choice.weights[token][j], from[j * 16], sum);
      const int to = token * kTokenHidden + (first + nth * next) * 16 + index % 16;
      tell(args_.rooms.sparse + to, sum, number);
      args_.sparse[to] = sum;
    }
    sync_workers();
  }
  /// scratch = the rows that the experts' down products read, of all pairs.
  __device__ __forceinline__ void stage_inner(uint32_t number) {
    constexpr int kEach = T == 1 ? 6 : 11;  // words of a thread at once
    const int count = tokens_of<T>(args_) * args_.top_k * args_.expert_width / 2;
    bool first = true;
#pragma unroll 1
    for (int base = thread_now(); first || base < count; base += kEach * kWorkerThreads) {
      uint32_t words[kEach];
      hear<kEach>(
          number,
          [&](int i) {
            return args_.rooms.expert_inner + min(base + i * kWorkerThreads, count - 1);
          },
          [&](int i, uint32_t value) { words[i] = value; });
      if (first) sync_workers();  // nobody reads there any more
      first = false;
#pragma unroll
      for (int i = 0; i < kEach; ++i) {
        const int at = base + i * kWorkerThreads;
        if (at < count) reinterpret_cast<uint32_t*>(shared_.scratch)[at] = words[i];
      }
    }
    sync_workers();
  }
};

}  // namespace facet::cuda
