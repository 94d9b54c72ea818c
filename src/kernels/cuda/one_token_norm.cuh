#pragma once

// The residual stream of one token in the registers of kWorkerThreads threads, and its norms: the
// bits of row_norm.cuh, whose 512 threads are two here each.

#include "kernels/cuda/one_token_ring.cuh"
#include "kernels/cuda/one_token_words.cuh"
#include "kernels/cuda/route.cuh"
#include "kernels/cuda/row_norm.cuh"

namespace facet::cuda {

inline constexpr int kTokenPer = 11;  // elements of a thread: t, t + 256, …
static_assert(kTokenHidden == kTokenPer * kWorkerThreads && 2 * kWorkerThreads == kRowThreads);

/// Sums of virtual warps: reductions of a layer one after another, up to two at once.
struct TokenNormParts {
  float of[4][2][kRowWarps];
};

__device__ __forceinline__ void sync_workers() { bar_sync<1, kWorkerThreads>(); }

struct TokenValues {
  float v[kTokenPer];

  /// What no kernel writes.
  __device__ __forceinline__ void load_weights(const float* from) {
#pragma unroll
    for (int k = 0; k < kTokenPer; ++k) v[k] = __ldg(from + threadIdx.x + k * kWorkerThreads);
  }
  /// What other CTAs tell.
  __device__ __forceinline__ void hear_all(const uint2* from, uint32_t number) {
    hear<kTokenPer>(
        number, [&](int k) { return from + threadIdx.x + k * kWorkerThreads; },
        [&](int k, uint32_t value) { v[k] = __uint_as_float(value); });
  }
  /// What older kernels wrote.
  __device__ __forceinline__ void load(const float* from) {
#pragma unroll
    for (int k = 0; k < kTokenPer; ++k) v[k] = __ldcg(from + threadIdx.x + k * kWorkerThreads);
  }
  /// Sums of squares of this warp's two virtual warps.
  __device__ __forceinline__ void squares(float (&parts)[kRowWarps]) const {
    float even = 0.0F;
    float odd = 0.0F;
#pragma unroll
    for (int k = 0; k < kTokenPer; k += 2) {
      even = __fmaf_rn(v[k], v[k], even);
      if (k + 1 < kTokenPer) odd = __fmaf_rn(v[k + 1], v[k + 1], odd);
    }
    even = warp_sum(even);
    odd = warp_sum(odd);
    if (threadIdx.x % kWarp == 0) {
      parts[threadIdx.x / kWarp] = even;
      parts[threadIdx.x / kWarp + kRowWarps / 2] = odd;
    }
  }
  /// to = norm * weights as BF16 in F's order.
  template <class F>
  __device__ __forceinline__ void store_norm(uint8_t* to,
                                             float inverse,
                                             const TokenValues& weights) const {
    static_assert(kWorkerThreads % kStep == 0);  // what lies so far apart is in one place of a step
    auto* out = reinterpret_cast<uint16_t*>(to) + position_of<F>(static_cast<int>(threadIdx.x));
#pragma unroll
    for (int k = 0; k < kTokenPer; ++k) {
      const float normed = __fmul_rn(__fmul_rn(v[k], inverse), weights.v[k]);
      out[k * kWorkerThreads] = static_cast<uint16_t>(pack_bf16(normed, 0.0F));
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

/// The stream with what the layer before left pending (null: there is none) added, and its norm
/// into `to`. All loads are under way together.
__device__ __forceinline__ void enter_layer(const OneTokenArgs& args,
                                            const OneTokenLayer* before,
                                            const OneTokenLayer& layer,
                                            uint32_t number,
                                            TokenValues& x,
                                            TokenNormParts& parts,
                                            uint8_t* to) {
  TokenValues input;
  if (before != nullptr) {
    TokenValues y;
    TokenValues sparse;
    TokenValues dense_norm;
    TokenValues sparse_norm;
    TokenValues out_norm;
    dense_norm.load_weights(before->dense_out_norm);
    sparse_norm.load_weights(before->sparse_out_norm);
    out_norm.load_weights(before->out_norm);
    input.load_weights(layer.input_norm);
    hear<2 * kTokenPer>(  // the experts' come last
        number - 1,
        [&](int i) {
          const uint2* from = i < kTokenPer ? args.rooms.dense : args.rooms.sparse;
          return from + threadIdx.x + i % kTokenPer * kWorkerThreads;
        },
        [&](int i, uint32_t value) {
          (i < kTokenPer ? y : sparse).v[i % kTokenPer] = __uint_as_float(value);
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
    x.load(args.x);
    input.load_weights(layer.input_norm);
  }
  x.squares(parts.of[2][0]);
  sync_workers();
  x.store_norm<Bf16Steps>(to, token_inverse(parts.of[2][0], args), input);
}

/// The stream with attention's branch added; what the dense branch reads, the experts, and the
/// router (z, float32).
__device__ __forceinline__ void enter_feed_forward(const OneTokenArgs& args,
                                                   const OneTokenLayer& layer,
                                                   uint32_t number,
                                                   float root,
                                                   TokenValues& x,
                                                   TokenNormParts& parts,
                                                   uint8_t* dense,
                                                   uint8_t* experts,
                                                   float* z) {
  TokenValues y;
  TokenValues attention_norm;
  TokenValues dense_norm;
  TokenValues experts_norm;
  TokenValues scale;
  attention_norm.load_weights(layer.attention_norm);
  dense_norm.load_weights(layer.dense_norm);
  experts_norm.load_weights(layer.experts_norm);
  scale.load_weights(layer.router_scale);
  y.hear_all(args.rooms.branch, number);
  y.squares(parts.of[3][0]);
  sync_workers();
  x.add_norm(y, token_inverse(parts.of[3][0], args), attention_norm, 1.0F);
  x.squares(parts.of[3][1]);
  sync_workers();
  const float inverse = token_inverse(parts.of[3][1], args);
#pragma unroll
  for (int k = 0; k < kTokenPer; ++k)
    z[threadIdx.x + k * kWorkerThreads] = router_input(x.v[k], inverse, scale.v[k], root);
  x.store_norm<Bf16Steps>(dense, inverse, dense_norm);
  x.store_norm<Nvfp4Steps>(experts, inverse, experts_norm);
}

}  // namespace facet::cuda
