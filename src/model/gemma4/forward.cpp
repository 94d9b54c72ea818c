// The forward pass, in the order of the architecture description (gemma4-architecture 2). Shapes
// stand beside the ops: T rows of the step, H hidden, Q query heads, K KV heads, D head size, I and
// F feed-forward widths, L layers, P per-layer embedding width.

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "model/gemma4/gemma4_model.h"
#include "model/host_observer.h"
#include "quant/float_formats.h"

namespace facet::gemma4 {
namespace {

/// √n as the checkpoints' own dtype holds it (2.2).
float bf16_sqrt(int32_t n) {
  return bf16_to_float(float_to_bf16(std::sqrt(static_cast<float>(n))));
}

float inverse_sqrt(int32_t n) { return static_cast<float>(std::pow(static_cast<double>(n), -0.5)); }

}  // namespace

std::optional<TensorView> Gemma4Model::forward(const Step& step) {
  if (step.observer == nullptr || backend_.allocator().device == Device::kHost) return run(step);
  HostObserver observer(*step.observer, backend_.allocator());
  return run({step.ids, step.batch, step.kv, step.logit_rows, &observer});
}

std::optional<TensorView> Gemma4Model::run(const Step& step) {
  const auto rows = static_cast<int64_t>(step.ids.size());
  const auto logit_rows = static_cast<int64_t>(step.logit_rows.size());
  CHECK(rows > 0 && rows <= limits_.max_rows && rows == step.batch.rows(), "{} rows", rows);
  CHECK(logit_rows <= limits_.max_logit_rows, "{} logit rows", logit_rows);
  const Activations a = activations(rows, logit_rows);

  // Media placeholders without media are read as the pad token in both tables (2.2).
  ids_.assign(step.ids.begin(), step.ids.end());
  for (int32_t& id : ids_) {
    if (config_.is_placeholder(TokenId{id})) id = to_index(config_.pad_token_id);
  }
  const StepInputs inputs = {ids_, step.logit_rows, step.batch, step.kv, step.observer != nullptr};
  const bool wanted = backend_.begin_step(inputs);
  const bool whole = !wanted || compute(step, a);
  const TensorView logits = backend_.end_step(a.logits);
  if (!whole) return std::nullopt;
  return logits;
}

bool Gemma4Model::compute(const Step& step, const Activations& a) {
  Backend& be = backend_;
  be.embed(a.x, weights_.embed_tokens, ids_, bf16_sqrt(config_.hidden_size));  // [T, H]
  if (has_ple()) per_layer_inputs(step, a);                                    // [T, L*P]
  for (int32_t layer = 0; layer < config_.num_hidden_layers; ++layer) {
    if (step.observer != nullptr) {
      if (!step.observer->goes_on(layer)) return false;
      step.observer->hidden(layer, a.x);
    }
    decoder_layer(layer, step, a);
  }
  if (step.observer != nullptr) step.observer->after_layers(a.x);
  be.rms_norm(a.h, a.x, weights_.norm, eps_);  // [T, H]
  if (step.observer != nullptr) step.observer->hidden(config_.num_hidden_layers, a.h);
  if (step.logit_rows.empty()) return true;
  be.gather_rows(a.last, a.h, step.logit_rows);   // [R, H]
  be.linear(a.logits, a.last, weights_.lm_head);  // [R, V]
  if (config_.final_logit_softcapping)
    be.soft_cap(a.logits, static_cast<float>(*config_.final_logit_softcapping));
  return true;
}

void Gemma4Model::decoder_layer(int32_t index, const Step& step, const Activations& a) {
  const LayerWeights& w = weights_.layers[static_cast<size_t>(index)];
  Backend& be = backend_;

  be.rms_norm(a.h, a.x, w.input_layernorm, eps_);                     // [T, H]
  attention(index, step, a);                                          // h = Attn(h)
  be.add_rms_norm(a.x, a.h, w.post_attention_layernorm, eps_, 1.0F);  // x += norm(h)
  if (step.observer != nullptr) step.observer->after_attention(index, a.x);

  be.rms_norm(a.h, a.x, w.pre_feedforward_layernorm, eps_);  // [T, H]
  feed_forward(index, step, a);                              // dense = MLP(h) [+ experts]
  const float scalar = has_ple() ? 1.0F : w.layer_scalar;
  be.add_rms_norm(a.x, a.dense, w.post_feedforward_layernorm, eps_,
                  scalar);  // x = (x + norm) * scalar
  if (!has_ple()) return;

  be.linear(a.ple_gate, a.x, w.per_layer_input_gate);                    // [T, P]
  be.gather_rows(a.ple_layer, a.ple, rows_of_layer(index, a.x.rows()));  // [T, P]
  be.activate(a.ple_gate, a.ple_gate, a.ple_layer,
              {activation_.function, Gating::kGated});  // act(gate) * ple
  be.linear(a.h, a.ple_gate, w.per_layer_projection);   // [T, H]
  be.add_rms_norm(a.x, a.h, w.post_per_layer_input_norm, eps_,
                  w.layer_scalar);  // x = (x + norm) * scalar
}

void Gemma4Model::attention(int32_t index, const Step& step, const Activations& a) {
  const LayerConfig& c = config_.layers[static_cast<size_t>(index)];
  const AttentionWeights& w = weights_.layers[static_cast<size_t>(index)].self_attn;
  const RopeTable& rope = rope_[static_cast<size_t>(index)];
  const KvView kv = kv_of(index, step.kv);
  const int64_t rows = a.h.rows();
  Backend& be = backend_;

  const TensorView q = scratch_view(a.q, {rows, c.num_heads, c.head_dim});
  be.linear(q.reshaped({rows, c.q_size()}), a.h, w.q_proj);  // [T, Q*D]
  AttentionRows projected = {q, {}, {}, c.k_eq_v, w.q_norm, w.k_norm};
  if (c.kv_donor == index) {
    projected.k = scratch_view(a.k, {rows, c.num_kv_heads, c.head_dim});
    projected.v = scratch_view(a.v, {rows, c.num_kv_heads, c.head_dim});
    be.linear(projected.k.reshaped({rows, c.kv_size()}), a.h, w.k_proj);  // [T, K*D]
    if (!c.k_eq_v) be.linear(projected.v.reshaped({rows, c.kv_size()}), a.h, w.v_proj);
  }
  // q, k, v: norms per head, q and k rotated; k and v to the cache (2.5); scores not scaled
  const TensorView o = scratch_view(a.attended, {rows, c.num_heads, c.head_dim});
  be.attend(o, projected, kv, rope, c.window, step.batch, eps_);  // [T, Q, D]
  be.linear(a.h, o.reshaped({rows, c.q_size()}), w.o_proj);  // [T, H]
}

void Gemma4Model::feed_forward(int32_t index, const Step& step, const Activations& a) {
  const LayerConfig& c = config_.layers[static_cast<size_t>(index)];
  const LayerWeights& w = weights_.layers[static_cast<size_t>(index)];
  Backend& be = backend_;

  const Shape inner = {a.h.rows(), c.intermediate_size};
  const TensorView up = scratch_view(a.up, inner);
  const TensorView gate =
      activation_.gating == Gating::kGated ? scratch_view(a.gate, inner) : TensorView();
  if (!gate.empty()) be.linear(gate, a.h, w.mlp.gate_proj);  // [T, I]
  be.linear(up, a.h, w.mlp.up_proj);                         // [T, I]
  be.activate(up, gate, up, activation_);                    // act(gate) * up
  be.linear(a.dense, up, w.mlp.down_proj);                   // [T, H]
  if (!c.sparse) return;

  // Routing looks at the residual stream itself, not at any normalised copy (2.4).
  const RouterWeightsView router = {w.router.proj, w.router.scale, w.router.per_expert_scale};
  const Routing routing = {a.router_experts, a.router_weights};
  be.route(routing, a.x, router, eps_);  // [T, top_k]
  if (step.observer != nullptr) step.observer->routing(index, routing);
  be.rms_norm(a.h, a.x, w.pre_feedforward_layernorm_2, eps_);  // [T, H]
  be.experts(a.sparse, a.h, w.experts, routing, activation_);  // [T, H]
  be.join_branches(a.dense, a.sparse, w.post_feedforward_layernorm_1,
                   w.post_feedforward_layernorm_2, eps_);
}

void Gemma4Model::per_layer_inputs(const Step& step, const Activations& a) {
  const int64_t rows = a.x.rows();
  const int32_t width = config_.hidden_size_per_layer_input;
  const Shape flat = {rows, int64_t{config_.num_hidden_layers} * width};
  Backend& be = backend_;
  // ple = (norm(W x0 / √H) + E[id] √P) / √2, the norm over each layer's P values (2.3).
  be.linear(a.ple.reshaped(flat), a.x, weights_.per_layer_model_projection);
  be.scale(a.ple, inverse_sqrt(config_.hidden_size));
  be.rms_norm(a.ple, a.ple, weights_.per_layer_projection_norm, eps_);
  be.embed(a.ple_token.reshaped(flat), weights_.embed_tokens_per_layer, ids_, bf16_sqrt(width));
  be.add(a.ple, a.ple_token);
  be.scale(a.ple, inverse_sqrt(2));
  if (step.observer != nullptr) {
    step.observer->per_layer_inputs(a.ple.reshaped({rows, config_.num_hidden_layers, width}));
  }
}

}  // namespace facet::gemma4
