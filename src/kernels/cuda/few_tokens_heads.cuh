#pragma once

// The heads of one token in few_tokens: q, K and V from the words of their products, normed and
// rotated. The bits of attention_decode.cuh.

#include "kernels/cuda/attention_rows.cuh"
#include "kernels/cuda/few_tokens_norm.cuh"
#include "kernels/cuda/few_tokens_positions.cuh"

namespace facet::cuda {

/// What a cell's warps tell each other in attention: as rows of 512 components, whichever there
/// are.
struct TokenAttention {
  using Config = RowConfig<DType::kBF16, 512, 2, 1>;
  struct Start {
    alignas(16) uint8_t fresh[2][Config::kD * 2];  // K and V of the token's position, as stored
    float q[Config::kColumns][Config::kStrideQ];
  };
  struct Sums {
    uint32_t high[Config::kColumns][kPart / 2];  // the softmax's weights of a column as the lanes
    uint32_t low[Config::kColumns][kPart / 2];   // of its product take them: two BF16 terms
    float2 factors[Config::kColumns];            // JoinFactors, `now` below 0 where there is none
    float scores[Config::kWarps][kPart * Config::kColumns];  // of each slice of 64 components
  };
  union {
    Start start;
    Sums sums;
  };
};
/// From the room of a cell of heads of 256 components to the next: half of the rows, or slices.
inline constexpr int kCellRoom = 10496;
static_assert(kCellRoom % 16 == 0 &&
              kCellRoom >= offsetof(TokenAttention::Start, q) +
                               sizeof(float) * 4 * TokenAttention::Config::kStrideQ &&
              kCellRoom >= offsetof(TokenAttention::Sums, scores) +
                               sizeof(float) * 4 * kPart * TokenAttention::Config::kColumns);

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

/// q of the CTA's heads of a token, and K and V of its own position where the CTA has it, into
/// `start`; these into the cache too. A cell's warps take heads in turn, the first of them is
/// `warp` of `warps`.
template <int T>
__device__ __forceinline__ void prepare_heads(const FewTokensArgs& args,
                                              const FewTokensLayer& layer,
                                              const TokenTask& task,
                                              const TokenRotation<T>& rotation,
                                              int token,
                                              const int32_t* kv_rows,
                                              uint32_t number,
                                              int warp,
                                              int warps,
                                              TokenAttention::Start& start) {
  const FewTokensKind& kind = args.kinds[layer.kind];
  const int heads = task.rows.group;
  const int kv_head = token * kind.kv_heads + task.rows.kv_head;
#pragma unroll 1
  for (int at = warp; at < heads + (task.fresh >= 0 ? 2 : 0); at += warps) {
    const bool is_q = at < heads;
    const bool is_k = at == heads;
    const uint2* from =
        is_q ? args.rooms.q + (kv_head * heads + at) * kind.head_dim
             : (is_k || layer.v_is_k != 0 ? args.rooms.k : args.rooms.v) + kv_head * kind.head_dim;
    const bool wide = kind.head_dim == 512;
    TokenHead weights(wide);
    weights.load_weights(is_q ? layer.q_norm : is_k ? layer.k_norm : nullptr);
    TokenHead mine(wide);
    mine.hear_all(from, number);
    mine.norm(weights, args.eps);
    if (is_q || is_k)
      mine.rotate(rotation.sines[layer.kind][token], rotation.cosines[layer.kind][token],
                  kind.angles);
    if (is_q) {
      mine.each([&](int component, float value) { start.q[at][component] = value; });
    } else {
      const int fresh_at = task.fresh - task.first_part * kPart;  // among the CTA's positions
      const int64_t fresh_row =
          kind.window > 0 ? kv_rows[fresh_at] : kv_rows[fresh_at / 16] + fresh_at % 16;
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
