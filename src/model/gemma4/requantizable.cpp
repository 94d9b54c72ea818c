#include "model/gemma4/requantizable.h"

namespace facet::gemma4 {

std::vector<Requantizable> requantizable(Weights& weights) {
  std::vector<Requantizable> all;
  const auto add = [&](WeightMatrix& matrix) {
    if (!matrix.empty()) all.push_back({&matrix, nullptr});
  };
  for (LayerWeights& layer : weights.layers) {
    AttentionWeights& attention = layer.self_attn;
    add(attention.q_proj);
    if (!attention.k_proj.empty() && attention.v_proj.data == attention.k_proj.data) {
      all.push_back({&attention.k_proj, &attention.v_proj});
    } else {
      add(attention.k_proj);
      add(attention.v_proj);
    }
    add(attention.o_proj);
    add(layer.mlp.gate_proj);
    add(layer.mlp.up_proj);
    add(layer.mlp.down_proj);
    for (ExpertMatrices& expert : layer.experts.experts) {
      add(expert.gate);
      add(expert.up);
      add(expert.down);
    }
  }
  add(weights.lm_head);
  return all;
}

}  // namespace facet::gemma4
