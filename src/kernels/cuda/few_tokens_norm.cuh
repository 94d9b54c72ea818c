#pragma once

// The residual streams of the tokens and their norms: the bits of row_norm.cuh. One token's stream
// is in every CTA, which settles it for itself; of several, one CTA has one each, settles it and
// tells its norms. Between its two uses in a layer it lies in memory, where a thread finds what it
// wrote, for registers are few; it comes back while the words do.

#include "kernels/cuda/few_tokens_ring.cuh"
#include "kernels/cuda/few_tokens_words.cuh"
#include "kernels/cuda/route.cuh"
#include "kernels/cuda/row_norm.cuh"

namespace facet::cuda {

inline constexpr int kTokenPer = 6;  // elements of a thread: t, t + 512, …; half have the last
static_assert(kWorkerThreads == kRowThreads && kTokenHidden > (kTokenPer - 1) * kWorkerThreads &&
              kTokenHidden <= kTokenPer * kWorkerThreads);

/// Sums of warps: reductions of a layer one after another, up to two at once.
struct TokenNormParts {
  alignas(16) float of[4][2][kRowWarps];
};

/// The stream's elements of a thread.
struct TokenElements {
  const int thread = thread_now();

  /// The k-th; has(k): it is one.
  __device__ __forceinline__ int operator()(int k) const { return thread + k * kWorkerThreads; }
  __device__ __forceinline__ bool has(int k) const {
    return (k + 1) * kWorkerThreads <= kTokenHidden || (*this)(k) < kTokenHidden;
  }
  /// Where it stands even if it is none: the last.
  __device__ __forceinline__ int near(int k) const {
    return (k + 1) * kWorkerThreads <= kTokenHidden ? (*this)(k)
                                                    : min((*this)(k), kTokenHidden - 1);
  }
};

/// Zeros where there is no element.
struct TokenValues {
  float v[kTokenPer];

  /// What no kernel writes.
  __device__ __forceinline__ void load_weights(const TokenElements& at, const float* from) {
#pragma unroll
    for (int k = 0; k < kTokenPer; ++k) v[k] = at.has(k) ? __ldg(from + at(k)) : 0.0F;
  }
  /// A token's embedding.
  __device__ __forceinline__ void embed(const TokenElements& at,
                                        const FewTokensEmbedding& from,
                                        int token) {
    const uint16_t* row = from.table + int64_t{__ldg(from.ids + token)} * kTokenHidden;
#pragma unroll
    for (int k = 0; k < kTokenPer; ++k)
      v[k] = at.has(k) ? __fmul_rn(from_bf16(__ldg(row + at(k))), from.scale) : 0.0F;
  }
  /// What other CTAs tell.
  __device__ __forceinline__ void hear_all(const TokenElements& at,
                                           const uint2* from,
                                           uint32_t number) {
    hear<kTokenPer>(
        number, [&](int k) { return from + at.near(k); },
        [&](int k, uint32_t value) { v[k] = at.has(k) ? __uint_as_float(value) : 0.0F; });
  }
  /// What older kernels wrote, or this thread.
  __device__ __forceinline__ void load(const TokenElements& at, const float* from) {
#pragma unroll
    for (int k = 0; k < kTokenPer; ++k) v[k] = at.has(k) ? __ldcg(from + at(k)) : 0.0F;
  }
  __device__ __forceinline__ void store(const TokenElements& at, float* to) const {
#pragma unroll
    for (int k = 0; k < kTokenPer; ++k)
      if (at.has(k)) __stcg(to + at(k), v[k]);
  }
  /// The warp's sum of squares.
  __device__ __forceinline__ void squares(float (&parts)[kRowWarps]) const {
    float sum = 0.0F;
#pragma unroll
    for (int k = 0; k < kTokenPer; ++k) sum = __fmaf_rn(v[k], v[k], sum);
    sum = warp_sum(sum);
    if (threadIdx.x % kWarp == 0) parts[threadIdx.x / kWarp] = sum;
  }
  /// to = norm * weights as BF16 in F's order.
  template <class F>
  __device__ __forceinline__ void store_norm(const TokenElements& at,
                                             uint8_t* to,
                                             float inverse,
                                             const TokenValues& weights) const {
    static_assert(kWorkerThreads % kStep == 0);  // what lies so far apart is in one place of a step
    auto* out = reinterpret_cast<uint16_t*>(to) + position_of<F>(at.thread);
#pragma unroll
    for (int k = 0; k < kTokenPer; ++k) {
      const float normed = __fmul_rn(__fmul_rn(v[k], inverse), weights.v[k]);
      if (at.has(k)) out[k * kWorkerThreads] = static_cast<uint16_t>(pack_bf16(normed, 0.0F));
    }
  }
  /// Tells norm * weights as BF16.
  __device__ __forceinline__ void tell_norm(const TokenElements& at,
                                            uint2* to,
                                            float inverse,
                                            const TokenValues& weights,
                                            uint32_t number) const {
#pragma unroll
    for (int k = 0; k < kTokenPer; ++k) {
      const float normed = __fmul_rn(__fmul_rn(v[k], inverse), weights.v[k]);
      const float next = __shfl_down_sync(kAllLanes, normed, 1);
      if (at.has(k) && at.thread % 2 == 0) tell(to + at(k) / 2, pack_bf16(normed, next), number);
    }
  }
  /// x = (x + norm(y) * weights) * factor.
  __device__ __forceinline__ void add_norm(const TokenValues& y,
                                           float inverse,
                                           const TokenValues& weights,
                                           float factor) {
#pragma unroll
    for (int k = 0; k < kTokenPer; ++k) {
      const float normed = __fmul_rn(__fmul_rn(y.v[k], inverse), weights.v[k]);
      v[k] = __fmul_rn(__fadd_rn(v[k], normed), factor);
    }
  }
};
static_assert(kTokenHidden % kWarp == 0);  // a warp's lanes all have an element, or none

__device__ __forceinline__ float token_inverse(const float (&parts)[kRowWarps],
                                               const FewTokensArgs& args) {
  return inverse_of(sum_parts(parts), kTokenHidden, args.eps);
}

/// The token whose stream the CTA has: with one token each has it, with more some of those that
/// have less to do than others. Beyond the tokens: none.
template <int T>
__device__ __forceinline__ int own_token() {
  return T == 1 ? 0 : static_cast<int>(gridDim.x - 1 - blockIdx.x);
}
/// The CTA's stream.
template <int T>
__device__ __forceinline__ float* own_stream(const FewTokensArgs& args) {
  return args.rooms.streams +
         int64_t{T == 1 ? static_cast<int>(blockIdx.x) : own_token<T>()} * kTokenHidden;
}

/// A token's elements that TokenSpread has, from what its experts gave.
__device__ __forceinline__ void add_spread(const TokenElements& at,
                                           const FewTokensArgs& args,
                                           int token,
                                           uint32_t number,
                                           const float* expert_weights,
                                           TokenValues& sparse) {
  const int first = TokenSpread().first_row();
  const uint2* from = args.rooms.spread + token * args.top_k * kTokenHidden;
#pragma unroll
  for (int k = 0; k < kTokenPer; ++k) {
    if (at(k) < first || !at.has(k)) continue;
    float sum = 0.0F;
    hear<kTokenExperts>(
        number, [&](int j) { return from + min(j, args.top_k - 1) * kTokenHidden + at(k); },
        [&](int j, uint32_t value) {
          if (j < args.top_k) sum = __fmaf_rn(expert_weights[j], __uint_as_float(value), sum);
        });
    sparse.v[k] = sum;
  }
}

/// The CTA's stream, at first a token's embedding, with what the layer before (null: this is the
/// first) left pending added, and its norm with weights `norm`: for one token into `to`, else told.
/// expert_weights: of the layer before. All loads are under way together.
template <int T>
__device__ __forceinline__ void enter_layer(const FewTokensArgs& args,
                                            const FewTokensLayer* before,
                                            const float* norm,
                                            uint32_t number,
                                            const float* expert_weights,
                                            TokenNormParts& parts,
                                            uint8_t* to) {
  const TokenElements at;
  float* stream = own_stream<T>(args);
  const int64_t row = int64_t{own_token<T>()} * kTokenHidden;
  TokenValues x;
  if (before == nullptr && args.embedding.table != nullptr) {
    x.embed(at, args.embedding, own_token<T>());
  } else {
    x.load(at, before != nullptr ? stream : args.x + row);
  }
  TokenValues input;
  if (before != nullptr) {
    TokenValues y;
    TokenValues sparse;
    TokenValues dense_norm;
    TokenValues sparse_norm;
    TokenValues out_norm;
    dense_norm.load_weights(at, before->dense_out_norm);
    sparse_norm.load_weights(at, before->sparse_out_norm);
    out_norm.load_weights(at, before->out_norm);
    input.load_weights(at, norm);
    hear<2 * kTokenPer>(  // the experts' come last
        number - 1,
        [&](int i) {
          const int place = at.near(i % kTokenPer);
          const bool told = i >= kTokenPer && (T == 1 || place < TokenSpread().first_row());
          return (told ? args.rooms.sparse : args.rooms.dense) + row + place;
        },
        [&](int i, uint32_t value) {
          const int k = i % kTokenPer;
          (i < kTokenPer ? y : sparse).v[k] = at.has(k) ? __uint_as_float(value) : 0.0F;
        });
    if (T > 1) add_spread(at, args, own_token<T>(), number - 1, expert_weights, sparse);
    y.squares(parts.of[0][0]);
    sparse.squares(parts.of[0][1]);
    sync_workers();
    const float y_inverse = token_inverse(parts.of[0][0], args);
    const float sparse_inverse = token_inverse(parts.of[0][1], args);
#pragma unroll
    for (int k = 0; k < kTokenPer; ++k) {
      y.v[k] = __fadd_rn(__fmul_rn(__fmul_rn(y.v[k], y_inverse), dense_norm.v[k]),
                         __fmul_rn(__fmul_rn(sparse.v[k], sparse_inverse), sparse_norm.v[k]));
    }
    y.squares(parts.of[1][0]);
    sync_workers();
    x.add_norm(y, token_inverse(parts.of[1][0], args), out_norm, before->factor);
  } else {
    input.load_weights(at, norm);
  }
  x.store(at, stream);
  x.squares(parts.of[2][0]);
  sync_workers();
  const float inverse = token_inverse(parts.of[2][0], args);
  if constexpr (T == 1) {
    x.store_norm<Bf16Steps>(at, to, inverse, input);
  } else {
    x.tell_norm(at, args.rooms.input + row / 2, inverse, input, number);
  }
}

/// The CTA's stream with attention's branch added: what all branches read, without weights.
/// x: out, what 1 / `inverse` is the root mean square of.
template <int T>
__device__ __forceinline__ float settle_attention(const FewTokensArgs& args,
                                                  const FewTokensLayer& layer,
                                                  uint32_t number,
                                                  TokenNormParts& parts,
                                                  const TokenElements& at,
                                                  TokenValues& x) {
  x.load(at, own_stream<T>(args));
  TokenValues y;
  TokenValues attention_norm;
  attention_norm.load_weights(at, layer.attention_norm);
  y.hear_all(at, args.rooms.branch + int64_t{own_token<T>()} * kTokenHidden, number);
  y.squares(parts.of[3][0]);
  sync_workers();
  x.add_norm(y, token_inverse(parts.of[3][0], args), attention_norm, 1.0F);
  x.store(at, own_stream<T>(args));
  x.squares(parts.of[3][1]);
  sync_workers();
  return token_inverse(parts.of[3][1], args);
}

/// The weights of what enters the branches.
struct TokenBranchNorms {
  TokenValues dense;
  TokenValues experts;
  TokenValues scale;  // the router's

  __device__ __forceinline__ void load(const TokenElements& at, const FewTokensLayer& layer) {
    dense.load_weights(at, layer.dense_norm);
    experts.load_weights(at, layer.experts_norm);
    scale.load_weights(at, layer.router_scale);
  }
  /// What the dense branch reads, the experts, and the router (z, float32), of x's norm.
  __device__ __forceinline__ void store(const TokenElements& at,
                                        const TokenValues& x,
                                        float inverse,
                                        float root,
                                        uint8_t* to_dense,
                                        uint8_t* to_experts,
                                        float* z) const {
#pragma unroll
    for (int k = 0; k < kTokenPer; ++k)
      if (at.has(k)) z[at(k)] = router_input(x.v[k], inverse, scale.v[k], root);
    x.store_norm<Bf16Steps>(at, to_dense, inverse, dense);
    x.store_norm<Nvfp4Steps>(at, to_experts, inverse, experts);
  }
};

}  // namespace facet::cuda
