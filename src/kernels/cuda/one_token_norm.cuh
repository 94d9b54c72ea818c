#pragma once

// The residual stream of one token, of which each CTA has its own, and its norms, by kWorkerThreads
// threads: the bits of row_norm.cuh. Between its two uses in a layer it lies in memory, where a
// thread finds what it wrote, for registers are few; it comes back while the words do.

#include "kernels/cuda/one_token_ring.cuh"
#include "kernels/cuda/one_token_words.cuh"
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
};

/// Zeros where there is no element.
struct TokenValues {
  float v[kTokenPer];

  /// What no kernel writes.
  __device__ __forceinline__ void load_weights(const TokenElements& at, const float* from) {
#pragma unroll
    for (int k = 0; k < kTokenPer; ++k) v[k] = at.has(k) ? __ldg(from + at(k)) : 0.0F;
  }
  /// What other CTAs tell.
  __device__ __forceinline__ void hear_all(const TokenElements& at,
                                           const uint2* from,
                                           uint32_t number) {
    hear<kTokenPer>(
        number, [&](int k) { return from + min(at(k), kTokenHidden - 1); },
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

__device__ __forceinline__ float token_inverse(const float (&parts)[kRowWarps],
                                               const OneTokenArgs& args) {
  return inverse_of(sum_parts(parts), kTokenHidden, args.eps);
}

/// The CTA's stream.
__device__ __forceinline__ float* stream_of(const OneTokenArgs& args) {
  return args.rooms.streams + int64_t{blockIdx.x} * kTokenHidden;
}

/// The stream with what the layer before left pending (null: there is none) added, and its norm
/// into `to`. All loads are under way together.
__device__ __forceinline__ void enter_layer(const OneTokenArgs& args,
                                            const OneTokenLayer* before,
                                            const OneTokenLayer& layer,
                                            uint32_t number,
                                            TokenNormParts& parts,
                                            uint8_t* to) {
  const TokenElements at;
  float* stream = stream_of(args);
  TokenValues x;
  x.load(at, before != nullptr ? stream : args.x);
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
    input.load_weights(at, layer.input_norm);
    hear<2 * kTokenPer>(  // the experts' come last
        number - 1,
        [&](int i) {
          const uint2* from = i < kTokenPer ? args.rooms.dense : args.rooms.sparse;
          return from + min(at(i % kTokenPer), kTokenHidden - 1);
        },
        [&](int i, uint32_t value) {
          const int k = i % kTokenPer;
          (i < kTokenPer ? y : sparse).v[k] = at.has(k) ? __uint_as_float(value) : 0.0F;
        });
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
    input.load_weights(at, layer.input_norm);
  }
  x.store(at, stream);
  x.squares(parts.of[2][0]);
  sync_workers();
  x.store_norm<Bf16Steps>(at, to, token_inverse(parts.of[2][0], args), input);
}

/// The stream with attention's branch added; what the dense branch reads, the experts, and the
/// router (z, float32).
__device__ __forceinline__ void enter_feed_forward(const OneTokenArgs& args,
                                                   const OneTokenLayer& layer,
                                                   uint32_t number,
                                                   float root,
                                                   TokenNormParts& parts,
                                                   uint8_t* dense,
                                                   uint8_t* experts,
                                                   float* z) {
  const TokenElements at;
  TokenValues x;
  x.load(at, stream_of(args));
  TokenValues y;
  TokenValues attention_norm;
  TokenValues dense_norm;
  TokenValues experts_norm;
  TokenValues scale;
  attention_norm.load_weights(at, layer.attention_norm);
  dense_norm.load_weights(at, layer.dense_norm);
  experts_norm.load_weights(at, layer.experts_norm);
  scale.load_weights(at, layer.router_scale);
  y.hear_all(at, args.rooms.branch, number);
  y.squares(parts.of[3][0]);
  sync_workers();
  x.add_norm(y, token_inverse(parts.of[3][0], args), attention_norm, 1.0F);
  x.store(at, stream_of(args));
  x.squares(parts.of[3][1]);
  sync_workers();
  const float inverse = token_inverse(parts.of[3][1], args);
#pragma unroll
  for (int k = 0; k < kTokenPer; ++k)
    if (at.has(k)) z[at(k)] = router_input(x.v[k], inverse, scale.v[k], root);
  x.store_norm<Bf16Steps>(at, dense, inverse, dense_norm);
  x.store_norm<Nvfp4Steps>(at, experts, inverse, experts_norm);
}

}  // namespace facet::cuda
