#include <fmt/core.h>
#include <string>
#include <utility>
#include <vector>

#include "model/gemma4/expert_mapping.h"
#include "model/gemma4/tensor_slots.h"
#include "model/gemma4/weights.h"

namespace facet::gemma4 {
namespace {

/// Declares where every tensor of one checkpoint goes.
class Declaration {
 public:
  Declaration(const Gemma4Config& config, const Activation& activation, Weights& weights)
      : config_(config),
        gating_(activation.gating),
        experts_(make_expert_params_mapping(config.num_experts, gating_)),
        weights_(weights) {}

  TensorSlots declare() {
    const int64_t vocab = config_.vocab_size;
    const int64_t hidden = config_.hidden_size;
    slots_.add_plain("embed_tokens", {vocab, hidden}, weights_.embed_tokens);
    slots_.add_vector("norm.weight", {hidden}, weights_.norm);
    if (config_.tie_word_embeddings) {
      slots_.add_ignored("lm_head.", Ignored::kTiedHead);
    } else {
      slots_.add_linear("lm_head", {vocab, hidden}, weights_.lm_head);
    }
    if (const int64_t width = config_.hidden_size_per_layer_input; width > 0) {
      const int64_t all = width * config_.num_hidden_layers;
      slots_.add_plain("embed_tokens_per_layer", {config_.vocab_size_per_layer_input, all},
                       weights_.embed_tokens_per_layer);
      slots_.add_linear("per_layer_model_projection", {all, hidden},
                        weights_.per_layer_model_projection);
      slots_.add_vector("per_layer_projection_norm.weight", {width},
                        weights_.per_layer_projection_norm);
    }
    weights_.layers.resize(config_.layers.size());
    for (size_t i = 0; i < config_.layers.size(); ++i) declare_layer(static_cast<int32_t>(i));
    return std::move(slots_);
  }

 private:
  void declare_layer(int32_t index) {
    const LayerConfig& layer = config_.layers[static_cast<size_t>(index)];
    LayerWeights& w = weights_.layers[static_cast<size_t>(index)];
    const std::string at = fmt::format("layers.{}.", index);
    const int64_t hidden = config_.hidden_size;
    const auto norm = [&](const char* name, Vector& target) {
      slots_.add_vector(at + name + ".weight", {hidden}, target);
    };
    norm("input_layernorm", w.input_layernorm);
    norm("post_attention_layernorm", w.post_attention_layernorm);
    norm("pre_feedforward_layernorm", w.pre_feedforward_layernorm);
    norm("post_feedforward_layernorm", w.post_feedforward_layernorm);
    slots_.add_scalar(at + "layer_scalar", w.layer_scalar);
    declare_attention(index, layer, at + "self_attn.", w.self_attn);

    const int64_t inner = layer.intermediate_size;
    if (gating_ == Gating::kGated) {
      slots_.add_linear(at + "mlp.gate_proj", {inner, hidden}, w.mlp.gate_proj);
    }
    slots_.add_linear(at + "mlp.up_proj", {inner, hidden}, w.mlp.up_proj);
    slots_.add_linear(at + "mlp.down_proj", {hidden, inner}, w.mlp.down_proj);
    if (layer.sparse) {
      norm("pre_feedforward_layernorm_2", w.pre_feedforward_layernorm_2);
      norm("post_feedforward_layernorm_1", w.post_feedforward_layernorm_1);
      norm("post_feedforward_layernorm_2", w.post_feedforward_layernorm_2);
      declare_experts(at, w);
    }
    if (const int64_t width = config_.hidden_size_per_layer_input; width > 0) {
      slots_.add_linear(at + "per_layer_input_gate", {width, hidden}, w.per_layer_input_gate);
      slots_.add_linear(at + "per_layer_projection", {hidden, width}, w.per_layer_projection);
      norm("post_per_layer_input_norm", w.post_per_layer_input_norm);
    }
  }

  void declare_attention(int32_t index,
                         const LayerConfig& layer,
                         const std::string& at,
                         AttentionWeights& w) {
    const int64_t hidden = config_.hidden_size;
    const int64_t head = layer.head_dim;
    slots_.add_linear(at + "q_proj", {layer.q_size(), hidden}, w.q_proj);
    slots_.add_linear(at + "o_proj", {hidden, layer.q_size()}, w.o_proj);
    slots_.add_vector(at + "q_norm.weight", {head}, w.q_norm);
    if (layer.kv_donor != index) {
      // Google's files still hold these; the layer reads its donor's cache
      // (gemma4-architecture 2.8).
      for (const char* unused : {"k_proj.", "v_proj.", "k_norm.", "k_scale", "v_scale"}) {
        slots_.add_ignored(at + unused, Ignored::kSharedKv);
      }
      return;
    }
    slots_.add_linear(at + "k_proj", {layer.kv_size(), hidden}, w.k_proj);
    if (!layer.k_eq_v) slots_.add_linear(at + "v_proj", {layer.kv_size(), hidden}, w.v_proj);
    slots_.add_vector(at + "k_norm.weight", {head}, w.k_norm);
    // ModelOpt's and compressed-tensors' names.
    slots_.add_kv_scale({at + "k_proj.k_scale", at + "k_scale"},
                        {at + "v_proj.v_scale", at + "v_scale"}, w.k_scale, w.v_scale);
  }

  void declare_experts(const std::string& at, LayerWeights& w) {
    const int64_t hidden = config_.hidden_size;
    const int64_t width = config_.moe_intermediate_size;
    const int64_t count = config_.num_experts;
    slots_.add_linear(at + "router.proj", {count, hidden}, w.router.proj);
    slots_.add_vector(at + "router.scale", {hidden}, w.router.scale);
    slots_.add_vector(at + "router.per_expert_scale", {count}, w.router.per_expert_scale);

    w.experts.experts.resize(static_cast<size_t>(count));
    ExpertSlots& experts =
        slots_.add_experts(at + "experts", {count, width, hidden}, gating_, w.experts);
    for (const ExpertParam& param : experts_) {
      ExpertMatrices& target = w.experts.experts[static_cast<size_t>(param.expert)];
      switch (param.projection) {
        case ExpertProjection::kGate:
          slots_.add_expert_linear(at + param.module, {width, hidden}, target.gate, experts);
          break;
        case ExpertProjection::kUp:
          slots_.add_expert_linear(at + param.module, {width, hidden}, target.up, experts);
          break;
        case ExpertProjection::kDown:
          slots_.add_expert_linear(at + param.module, {hidden, width}, target.down, experts);
          break;
      }
    }
  }

  const Gemma4Config& config_;
  const Gating gating_;
  const std::vector<ExpertParam> experts_;
  Weights& weights_;
  TensorSlots slots_;
};

}  // namespace

TensorSlots declare_weights(const Gemma4Config& config,
                            const Activation& activation,
                            Weights& weights) {
  return Declaration(config, activation, weights).declare();
}

}  // namespace facet::gemma4
