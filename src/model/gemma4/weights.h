#pragma once

#include <cstdint>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "checkpoint/quant_config.h"
#include "kernels/activation.h"
#include "kernels/expert_weights.h"
#include "model/gemma4/config.h"
#include "quant/weight_matrix.h"

namespace facet::gemma4 {

/// A norm weight, router scale or the like: float32, exactly the stored values.
using Vector = std::vector<float>;

/// Matrices are [out, in] views into the checkpoint's mapped files.
struct AttentionWeights {
  WeightMatrix q_proj;  // [Q*D, H]
  WeightMatrix k_proj;  // [K*D, H]; empty in layers that read another layer's KV
  WeightMatrix v_proj;  // [K*D, H]; the same as k_proj where attention_k_eq_v holds
  WeightMatrix o_proj;  // [H, Q*D]
  Vector q_norm;        // [D]
  Vector k_norm;        // [D]
  /// An FP8 cache stores e4m3(k / k_scale), e4m3(v / v_scale); 1 where the checkpoint has none.
  float k_scale = 1.0F;
  float v_scale = 1.0F;
};

struct MlpWeights {
  WeightMatrix gate_proj;  // [I, H]; empty without a gate
  WeightMatrix up_proj;    // [I, H]
  WeightMatrix down_proj;  // [H, I]
};

struct RouterWeights {
  WeightMatrix proj;        // [E, H]
  Vector scale;             // [H]
  Vector per_expert_scale;  // [E]
};

struct LayerWeights {
  Vector input_layernorm;  // [H], as are the norms below
  Vector post_attention_layernorm;
  Vector pre_feedforward_layernorm;
  Vector post_feedforward_layernorm;
  AttentionWeights self_attn;
  MlpWeights mlp;
  float layer_scalar = 1.0F;

  // With routed experts.
  Vector pre_feedforward_layernorm_2;
  Vector post_feedforward_layernorm_1;
  Vector post_feedforward_layernorm_2;
  RouterWeights router;
  ExpertWeights experts;

  // With per-layer embeddings, P wide.
  WeightMatrix per_layer_input_gate;  // [P, H]
  WeightMatrix per_layer_projection;  // [H, P]
  Vector post_per_layer_input_norm;   // [H]
};

struct Weights {
  WeightMatrix embed_tokens;  // [V, H]
  WeightMatrix lm_head;       // [V, H]; embed_tokens itself where tied
  Vector norm;                // [H]
  std::vector<LayerWeights> layers;

  // With per-layer embeddings.
  WeightMatrix embed_tokens_per_layer;      // [V', L*P]
  WeightMatrix per_layer_model_projection;  // [L*P, H]
  Vector per_layer_projection_norm;         // [P]

  // What the load met, for `info` and the log.
  int64_t text_tensors = 0;
  int64_t text_bytes = 0;
  int64_t skipped_vision_tensors = 0;
  int64_t skipped_audio_tensors = 0;
  int64_t ignored_shared_kv_tensors = 0;
  int32_t layers_with_kv_scales = 0;
};

/// Maps every text tensor of the checkpoint to its place: per-expert and fused experts, quantised
/// and plain linears, norms and scalars. Reads no weight values except vectors and scales. Throws
/// Error{kBadCheckpoint} with one report of everything missing, extra, misshapen, mistyped or
/// contradictory. The result views the checkpoint, which must outlive it.
Weights load_weights(const Checkpoint& checkpoint,
                     const Gemma4Config& config,
                     const QuantConfig& quant,
                     const Activation& activation);

}  // namespace facet::gemma4
