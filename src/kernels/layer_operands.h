#pragma once

// What the ops of a layer read, and where they leave what they give: views.

#include <cstdint>
#include <optional>
#include <span>

#include "kernels/activation.h"
#include "kernels/expert_weights.h"
#include "kernels/kv_view.h"
#include "kernels/rope.h"
#include "quant/weight_matrix.h"
#include "tensor/tensor.h"

namespace facet {

/// Which experts each row uses. Both are [T, top_k]; a row's experts stand in descending order of
/// router probability, equal ones by lower index.
struct Routing {
  TensorView experts;  // I32
  TensorView weights;  // F32: renormalised over the chosen, times per_expert_scale
};

struct RouterWeightsView {
  WeightMatrix proj;                        // [E, H]
  std::span<const float> scale;             // [H]
  std::span<const float> per_expert_scale;  // [E]
};

/// What the projections of a layer gave to its attention.
struct AttentionRows {
  TensorView q;                   ///< [T, Q, D]
  TensorView k;                   ///< [T, K, D]; empty where the layer reads another layer's cache
  TensorView v;                   ///< [T, K, D]; empty as k
  bool v_is_k = false;            ///< V starts from what k holds, and `v` is only room for it
  std::span<const float> q_norm;  ///< [D]
  std::span<const float> k_norm;  ///< [D]
};

/// What a branch of a layer gave, on its way into the residual stream: after
/// branch = norm(branch) * branch_norm + norm(sparse) * sparse_norm where there is a sparse one,
/// x = (x + norm(branch) * weight) * factor.
struct PendingBranch {
  TensorView branch;                        ///< [T, H]; empty: nothing is pending
  TensorView sparse = {};                   ///< [T, H]: what routed experts gave; empty: none
  std::span<const float> branch_norm = {};  ///< [H], with `sparse` only
  std::span<const float> sparse_norm = {};  ///< [H], with `sparse` only
  std::span<const float> weight = {};       ///< [H]
  float factor = 1.0F;
};

/// The residual stream of a step.
struct ResidualStream {
  TensorView x;  ///< [T, H]
  TensorView
      spare;  ///< [T, H]: room; an op that settles the stream may leave it here and swap both
  PendingBranch pending = {};
};

/// One product of a normed stream.
struct Projection {
  TensorView out;  ///< [T, w.rows]
  const WeightMatrix& w;
};

/// A feed-forward layer: an MLP and, beside it, routed experts or none.
struct FeedForward {
  std::span<const float> norm;  ///< [H]
  const WeightMatrix& gate;     ///< [I, H]; empty without a gate
  const WeightMatrix& up;       ///< [I, H]
  const WeightMatrix& down;     ///< [H, I]
  Activation activation;
  const ExpertWeights* experts = nullptr;  ///< null: no experts, and nothing below is read
  RouterWeightsView router = {};
  std::span<const float> experts_norm = {};  ///< [H]
};

/// What a feed-forward layer works on.
struct FeedForwardRows {
  TensorView h;           ///< [T, H]: room
  TensorView gate;        ///< [T, I]: room; empty without a gate
  TensorView inner;       ///< [T, I]: act(gate) * up
  TensorView dense;       ///< [T, H]: what the MLP gives
  TensorView experts_in;  ///< [T, H]: what the experts read
  TensorView sparse;      ///< [T, H]: what the experts give
  Routing routing;
};

/// A decoder layer without per-layer embeddings: what its ops get that no step changes, its cache,
/// and where its result goes.
struct DecoderLayer {
  std::span<const float> attention_in_norm;   ///< [H]
  std::span<const float> attention_out_norm;  ///< [H], factor 1
  const WeightMatrix& q;                      ///< [Q*D, H]
  const WeightMatrix& k;                      ///< [K*D, H]; empty: it reads another layer's cache
  const WeightMatrix& v;                      ///< [K*D, H]; not read with v_is_k
  const WeightMatrix& o;                      ///< [H, Q*D]
  bool v_is_k = false;
  std::span<const float> q_norm;  ///< [D]
  std::span<const float> k_norm;  ///< [D]
  const RopeTable& rope;
  int32_t window = 0;
  KvView kv;
  FeedForward feed_forward;
  PendingBranch result;  ///< what the layer leaves pending
};

/// What goes into the decoder layers: x = table[ids] * scale.
struct TokenEmbedding {
  const WeightMatrix& table;     ///< [V, H] of plain values
  std::span<const int32_t> ids;  ///< [T]
  float scale = 1.0F;
};

/// What follows the decoder layers: z = (norm(x) * norm) · wᵀ, logits = cap * tanh(z / cap).
struct LmHead {
  std::span<const float> norm;  ///< [H]
  const WeightMatrix& w;        ///< [V, H]
  std::optional<float> cap;     ///< none: logits = z
  TensorView logits;            ///< [T, V]; empty: not those of all rows are wanted
};

/// All of a model, but for per-layer embeddings.
struct Decoder {
  TokenEmbedding embedding;
  std::span<const DecoderLayer> layers;
  LmHead head;
  int32_t top_k = 0;  ///< experts of a row
  float eps = 0;
};

}  // namespace facet
