#pragma once

// The heads of one token in one_token: q, K and V from the words of their products, normed and
// rotated. The bits of attention_decode.cuh.

#include "kernels/cuda/attention_rows.cuh"
#include "kernels/cuda/one_token_norm.cuh"
#include "kernels/cuda/one_token_positions.cuh"

namespace facet::cuda {

/// What a CTA's warps tell each other in attention: as rows of 512 components, whichever there are.
struct TokenAttention {
  using Config = RowConfig<DType::kBF16, 512, 2, 1>;
  struct Sums {
    float scores[Config::kWarps][kPart * Config::kColumns];  // of each slice of 64 components
    uint32_t high[Config::kColumns][kPart / 2];  // the softmax's weights of a column as the lanes
    uint32_t low[Config::kColumns][kPart / 2];   // of its product take them: two BF16 terms
    float2 factors[Config::kColumns];            // JoinFactors, `now` below 0 where there is none
  };
  union {
    typename Config::Start start;
    Sums sums;
  };
};
static_assert(sizeof(TokenAttention) <= kTokenScratch);

/// The components of a head that a lane has: l, l + 32, … of each half, room for those of 512.
/// Fewer instructions for both sizes than one piece of code each, which would not stay in the
/// instruction cache.
class TokenHead {
 public:
  __device__ __forceinline__ TokenHead(bool wide) : wide_(wide), lane_(thread_now() % kWarp) {}

  /// Whether the k-th is one, and which.
  __device__ __forceinline__ bool has(int k) const { return wide_ || k % kPairs < kPairs / 2; }
  __device__ __forceinline__ int component(int k) const {
    const int half = k < kPairs ? 0 : wide_ ? 256 : 128;
    return half + (has(k) ? k % kPairs : 0) * kWarp + lane_;
  }
  __device__ __forceinline__ void hear_all(const uint2* from, uint32_t number) {
    hear<2 * kPairs>(
        number, [&](int k) { return from + component(k); },
        [&](int k, uint32_t value) { v[k] = has(k) ? __uint_as_float(value) : 0.0F; });
  }
  /// A norm's weights; null: none.
  __device__ __forceinline__ void load_weights(const float* weights) {
#pragma unroll
    for (int k = 0; k < 2 * kPairs; ++k)
      v[k] = weights != nullptr ? __ldg(weights + component(k)) : 1.0F;
  }
  /// Head::norm().
  __device__ __forceinline__ void norm(const TokenHead& weights, float eps) {
    float squares = 0.0F;
#pragma unroll
    for (int k = 0; k < 2 * kPairs; ++k) squares = fmaf(v[k], v[k], squares);
    const float mean = __fmul_rn(warp_sum(squares), wide_ ? 1.0F / 512 : 1.0F / 256);
    const float inverse = 1.0F / sqrtf(__fadd_rn(mean, eps));
#pragma unroll
    for (int k = 0; k < 2 * kPairs; ++k) v[k] = __fmul_rn(__fmul_rn(v[k], inverse), weights.v[k]);
  }
  /// Head::rotate().
  __device__ __forceinline__ void rotate(const float* sines, const float* cosines, int angles) {
#pragma unroll
    for (int k = 0; k < kPairs; ++k) {
      const int index = component(k);
      if (!has(k) || index >= angles) continue;
      const float a = v[k];
      const float b = v[k + kPairs];
      v[k] = fmaf(a, cosines[index], -__fmul_rn(b, sines[index]));
      v[k + kPairs] = fmaf(b, cosines[index], __fmul_rn(a, sines[index]));
    }
  }
  /// store(component, value) of each.
  template <typename Store>
  __device__ __forceinline__ void each(const Store& store) const {
#pragma unroll
    for (int k = 0; k < 2 * kPairs; ++k)
      if (has(k)) store(component(k), v[k]);
  }

 private:
  static constexpr int kPairs = 8;
  const bool wide_;
  const int lane_;
  float v[2 * kPairs];
};

/// q of the CTA's heads, and K and V of the token's own position where the CTA has it, into
/// `start`; these into the cache too. Warps take heads in turn. All workers.
__device__ __forceinline__ void prepare_heads(const OneTokenArgs& args,
                                              const OneTokenLayer& layer,
                                              const TokenTask& task,
                                              const TokenRotation& rotation,
                                              int64_t fresh_row,
                                              uint32_t number,
                                              TokenAttention::Config::Start& start) {
  const OneTokenKind& kind = args.kinds[layer.kind];
  const int heads = task.rows.group;
#pragma unroll 1
  for (int at = token_warp(); at < heads + (task.fresh >= 0 ? 2 : 0); at += kTokenWorkers) {
    const bool is_q = at < heads;
    const bool is_k = at == heads;
    const uint2* from = is_q ? args.rooms.q + (task.kv_head * heads + at) * kind.head_dim
                             : (is_k || layer.v_is_k != 0 ? args.rooms.k : args.rooms.v) +
                                   task.kv_head * kind.head_dim;
    const bool wide = kind.head_dim == 512;
    TokenHead weights(wide);
    weights.load_weights(is_q ? layer.q_norm : is_k ? layer.k_norm : nullptr);
    TokenHead mine(wide);
    mine.hear_all(from, number);
    mine.norm(weights, args.eps);
    if (is_q || is_k)
      mine.rotate(rotation.sines[layer.kind], rotation.cosines[layer.kind], kind.angles);
    if (is_q) {
      mine.each([&](int component, float value) { start.q[at][component] = value; });
    } else {
      std::byte* cache = (is_k ? layer.k_cache : layer.v_cache) + fresh_row * kind.head_dim * 2;
      auto* here = reinterpret_cast<std::byte*>(start.fresh[is_k ? 0 : 1]);
      mine.each([&](int component, float value) {
        store_kv_value<DType::kBF16>(here, component, value);
        store_kv_value<DType::kBF16>(cache, component, value);
      });
    }
  }
}

}  // namespace facet::cuda
