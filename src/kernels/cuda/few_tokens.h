#pragma once

#include <cstdint>

#include <cuda.h>

#include "kernels/activation.h"
#include "kernels/cuda/experts.h"
#include "kernels/cuda/launch.h"
#include "kernels/step_limits.h"

namespace facet::cuda {

/// The cache of the layers that share one KV shape, and what they do with it.
struct FewTokensKind {
  const int32_t* table_begin = nullptr;  ///< as PagedKv, as `pages`
  const int32_t* pages = nullptr;
  const float* frequencies = nullptr;  ///< [angles]
  int32_t angles = 0;
  int32_t page_size = 0;  ///< a multiple of 16
  int32_t head_dim = 0;   ///< 256 or 512
  int32_t q_heads = 0;
  int32_t kv_heads = 0;
  int32_t window = 0;  ///< 0: none
  int32_t blocks = 0;  ///< CTAs that share a KV head's positions
  int32_t pieces = 0;  ///< room for so many of a head in FewTokensRooms::partials
  bool operator==(const FewTokensKind&) const = default;
};

/// A layer's BF16 matrices.
enum class TokenMap : int { kQ, kK, kV, kO, kGate, kUp, kDown, kCount };

/// One of them as the source of copies of 8 rows and `steps` times 64 columns. `data`: BF16 [rows,
/// cols], at 16 bytes.
CUtensorMap map_of_rows(const std::byte* data, int64_t rows, int64_t cols, int steps);
inline constexpr int kMapSteps = 4;  ///< there is a map for up to so many
inline constexpr int kMapsOfMatrices = static_cast<int>(TokenMap::kCount) * kMapSteps;
/// A layer's cached keys or values as the source of copies of `rows` positions and 64 components;
/// no positions before the first are zeros. `data`: BF16 [positions, head_dim], at 16 bytes.
CUtensorMap map_of_cache(const std::byte* data, int64_t head_dim, int rows);
inline constexpr int kMapsOfCache = 5;  ///< there are maps for 16, 8, 4, 2 positions and one

/// One layer, in memory of the GPU. Vectors are float32.
struct alignas(16) FewTokensLayer {
  const CUtensorMap* maps = nullptr;  ///< [TokenMap::kCount, kMapSteps], K's and V's kMapsOfCache
  const uint8_t* router = nullptr;    ///< BF16 [E, H]
  const ExpertPointers* experts = nullptr;
  std::byte* k_cache = nullptr;
  std::byte* v_cache = nullptr;
  const float* input_norm = nullptr;  ///< [H], as those below but for head norms
  const float* q_norm = nullptr;      ///< [head_dim]
  const float* k_norm = nullptr;
  const float* attention_norm = nullptr;  ///< of what attention gave
  const float* dense_norm = nullptr;      ///< of what the dense branch reads
  const float* experts_norm = nullptr;
  const float* router_scale = nullptr;
  const float* per_expert_scale = nullptr;  ///< [E]
  const float* dense_out_norm = nullptr;    ///< of what both branches gave, then of their sum
  const float* sparse_out_norm = nullptr;
  const float* out_norm = nullptr;
  float factor = 1.0F;
  int32_t kind = 0;    ///< of FewTokensArgs::kinds
  int32_t v_is_k = 0;  ///< V starts from what K's product gives, and has none itself
  bool operator==(const FewTokensLayer&) const = default;
};

/// What CTAs tell each other between the parts of a layer, in words (few_tokens_words.cuh): float32
/// or, where BF16 is all that is read, two of them. T: tokens.
struct FewTokensRooms {
  uint2* q = nullptr;         ///< [T, q_heads, head_dim] of any kind
  uint2* k = nullptr;         ///< [T, kv_heads, head_dim]
  uint2* v = nullptr;         ///< [T, kv_heads, head_dim]
  uint2* attended = nullptr;  ///< [T, q_heads, head_dim / 2], BF16
  uint2* branch = nullptr;    ///< [T, H]
  uint2* input = nullptr;     ///< [T, H / 2], BF16: norms of the streams, if T > 1
  uint2* between = nullptr;   ///< [T, H]: likewise, those that the branches read, without weights
  uint2* inner = nullptr;     ///< [T, dense_width / 2], BF16
  uint2* dense = nullptr;     ///< [T, H]
  uint2* sparse = nullptr;    ///< [T, H]
  uint2* spread = nullptr;    ///< [T, kTokenExperts, H]: TokenSpread's results, if T > 1
  uint2* logits = nullptr;    ///< [T, E]
  uint2* expert_inner = nullptr;  ///< [T, kTokenExperts, expert_width / 2], in the format's order
  uint2* partials = nullptr;  ///< of attention: T times few_tokens_partials(), of the larger kind
  float* streams = nullptr;   ///< no words: [multiprocessors, H], each CTA's own, or [T, H]
};

/// What follows the layers: logits = cap * tanh(z / cap), z = (norm(x) * norm) · wᵀ.
struct FewTokensHead {
  const CUtensorMap* maps = nullptr;  ///< [kMapSteps], device: of w, BF16 [rows, H]
  const float* norm = nullptr;        ///< [H]
  float* logits = nullptr;            ///< [T, rows]; null: nothing follows
  int32_t rows = 0;                   ///< the vocabulary's, a multiple of 8
  float cap = 0;                      ///< 0: logits = z
};

/// Where the streams begin: x = table[ids[t]] * scale.
struct FewTokensEmbedding {
  const uint16_t* table = nullptr;  ///< BF16 [V, H]; null: FewTokensArgs::x is there
  const int32_t* ids = nullptr;     ///< [T]
  float scale = 1.0F;
};

struct FewTokensArgs {
  const FewTokensLayer* layers = nullptr;  ///< [count], device
  int32_t count = 0;
  static constexpr int kKinds = 2;
  FewTokensKind kinds[kKinds];
  FewTokensEmbedding embedding;
  FewTokensHead head;
  /// [T, H], the stream: where it is read without a table of embeddings, and left without a head,
  /// what is pending after the last layer not added.
  float* x = nullptr;
  FewTokensRooms rooms;
  float* dense = nullptr;    ///< [T, H]: what the last layer leaves, as below
  float* sparse = nullptr;   ///< [T, H]
  uint32_t* done = nullptr;  ///< [multiprocessors]: layers and heads that each CTA has done; zeros
                             ///< at first
  const int32_t* positions = nullptr;        ///< [T]
  const int32_t* sequence_of_row = nullptr;  ///< [T]: each another sequence
  int32_t tokens = 1;                        ///< T, up to kMostTokens
  int32_t hidden = 0;                        ///< H
  int32_t dense_width = 0;
  int32_t expert_width = 0;
  int32_t experts = 0;  ///< E
  int32_t top_k = 0;
  int32_t longest = 0;    ///< a bound of positions
  int32_t few_parts = 0;  ///< parts of all KV heads up to which each is a piece of its own, without
                          ///< a window
  ActivationFunction function = ActivationFunction::kSilu;
  float eps = 0;
  int64_t bytes = 0;         ///< for Traffic
  int64_t expert_bytes = 0;  ///< likewise
};

/// Runs of 16 positions of a token and a kind of layers that a CTA may have.
constexpr int token_kv_rows(int tokens) { return tokens == 1 ? 256 : 80; }
inline constexpr int kTokenSharedBytes = 227 * 1024;

/// FewTokensArgs::few_parts.
int32_t few_token_parts(int32_t tokens);
/// Fills in blocks and pieces, for positions below `longest`.
void deal_positions(FewTokensKind& kind, int32_t longest, int32_t few_parts);
/// Words of FewTokensRooms::partials of a token.
int64_t few_tokens_partials(const FewTokensKind& kind);
/// Whether few_tokens() takes these dimensions on this GPU: layers and rooms are not looked at.
bool few_tokens_fit(const FewTokensArgs& args);

/// All decoder layers of a few tokens, each of another sequence, mixtures of experts in NVFP4 and
/// all else in BF16, in one launch: project(), attend(), linear(), enter_feed_forward() and
/// leave_feed_forward() of each, bit for bit; before them embed(), if there is a table; after them
/// with a head norm_stream(), linear() and soft_cap(), else what the last layer gave is left in
/// dense and sparse. Bound by the bytes of all weights and of the cache.
void few_tokens(cudaStream_t stream, const FewTokensArgs& args);

/// By a kernel for up to T tokens: 1, 2, 4 or 8.
template <int T>
void launch_few_tokens(cudaStream_t stream, const FewTokensArgs& args);

}  // namespace facet::cuda
