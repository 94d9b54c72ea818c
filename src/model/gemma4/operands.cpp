#include "model/gemma4/operands.h"

namespace facet::gemma4 {
namespace {

void add(ModelOperands& to, WeightMatrix& matrix) {
  if (!matrix.empty()) to.matrices.push_back(&matrix);
}

void add(ModelOperands& to, const Vector& vector) {
  if (!vector.empty()) to.vectors.emplace_back(vector);
}

void add_layer(ModelOperands& to, LayerWeights& layer) {
  AttentionWeights& attention = layer.self_attn;
  MlpWeights& mlp = layer.mlp;
  for (WeightMatrix* matrix :
       {&attention.q_proj, &attention.k_proj, &attention.v_proj, &attention.o_proj, &mlp.gate_proj,
        &mlp.up_proj, &mlp.down_proj, &layer.router.proj, &layer.per_layer_input_gate,
        &layer.per_layer_projection}) {
    add(to, *matrix);
  }
  for (const Vector* vector :
       {&layer.input_layernorm, &layer.post_attention_layernorm, &layer.pre_feedforward_layernorm,
        &layer.post_feedforward_layernorm, &attention.q_norm, &attention.k_norm,
        &layer.pre_feedforward_layernorm_2, &layer.post_feedforward_layernorm_1,
        &layer.post_feedforward_layernorm_2, &layer.router.scale, &layer.router.per_expert_scale,
        &layer.post_per_layer_input_norm}) {
    add(to, *vector);
  }
  if (!layer.experts.empty()) to.experts.push_back(&layer.experts);
}

}  // namespace

ModelOperands operands_of(Weights& weights) {
  ModelOperands operands;
  for (WeightMatrix* matrix :
       {&weights.embed_tokens, &weights.lm_head, &weights.embed_tokens_per_layer,
        &weights.per_layer_model_projection}) {
    add(operands, *matrix);
  }
  add(operands, weights.norm);
  add(operands, weights.per_layer_projection_norm);
  for (LayerWeights& layer : weights.layers) add_layer(operands, layer);
  return operands;
}

}  // namespace facet::gemma4
