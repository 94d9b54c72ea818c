// The forward pass, in the order of the architecture description (gemma4-architecture 2). Shapes
// stand beside the ops: T rows of the step, H hidden, Q query heads, K KV heads, D head size, I and
// F feed-forward widths, L layers, P per-layer embedding width.

#include <algorithm>
#include <cmath>
#include <functional>
#include <vector>

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

float embedding_scale(const Gemma4Config& config) { return bf16_sqrt(config.hidden_size); }

/// Of the logits.
std::optional<float> final_cap(const Gemma4Config& config) {
  if (!config.final_logit_softcapping) return std::nullopt;
  return static_cast<float>(*config.final_logit_softcapping);
}

}  // namespace

std::optional<TensorView> Gemma4Model::forward(const Step& step) {
  if (step.observer == nullptr || backend_.allocator().device == Device::kHost) return run(step);
  HostObserver observer(*step.observer, backend_.allocator());
  return run({step.ids, step.batch, step.kv, step.logit_rows, &observer, step.top_only});
}

std::span<float> Gemma4Model::fetch_logits(int64_t row) {
  return backend_.fetch(logits_.slice_rows(row, 1)).as<float>();
}

std::optional<TensorView> Gemma4Model::run(const Step& step) {
  const auto rows = static_cast<int64_t>(step.ids.size());
  const auto logit_rows = static_cast<int64_t>(step.logit_rows.size());
  CHECK(rows > 0 && rows <= limits_.max_rows && rows == step.batch.rows(), "{} rows", rows);
  CHECK(logit_rows <= limits_.max_logit_rows, "{} logit rows", logit_rows);
  CHECK(std::ranges::adjacent_find(step.logit_rows, std::ranges::greater_equal()) ==
                step.logit_rows.end() &&
            (logit_rows == 0 || (step.logit_rows.front() >= 0 && step.logit_rows.back() < rows)),
        "logit rows of {} rows are not in order", rows);
  const Activations a = activations(rows, logit_rows);

  // Media placeholders without media are read as the pad token in both tables (2.2).
  ids_.assign(step.ids.begin(), step.ids.end());
  for (int32_t& id : ids_) {
    if (config_.is_placeholder(TokenId{id})) id = to_index(config_.pad_token_id);
  }
  const StepInputs inputs = {ids_,      step.logit_rows,          step.batch,
                             step.kv,   step.observer != nullptr, step.top_only,
                             step.draws};
  const bool wanted = backend_.begin_step(inputs);
  const bool whole = !wanted || compute(step, a);
  logits_ = a.logits;
  const TensorView logits = backend_.end_step(a.logits);
  if (!whole) return std::nullopt;
  return logits;
}

bool Gemma4Model::compute(const Step& step, const Activations& a) {
  Backend& be = backend_;
  ResidualStream stream = {a.x, a.spare};
  const Decoded decoded = whole_step(step, a, stream);
  const bool whole = decoded != Decoded::kNothing;
  if (!whole) be.embed(a.x, weights_.embed_tokens, ids_, embedding_scale(config_));  // [T, H]
  if (has_ple()) per_layer_inputs(step, a);                                          // [T, L*P]
  for (int32_t layer = 0; !whole && layer < config_.num_hidden_layers; ++layer) {
    if (step.observer != nullptr) {
      if (!step.observer->goes_on(layer)) return false;
      be.settle(stream, eps_);
      step.observer->hidden(layer, stream.x);
    }
    decoder_layer(layer, step, a, stream);
  }
  if (step.observer != nullptr) {
    be.settle(stream, eps_);
    step.observer->after_layers(stream.x);
  }
  if (decoded != Decoded::kLogits) lm_head(step, a, stream);
  if (step.top_only && !step.logit_rows.empty()) be.select_top(a.logits);  // [R, V]
  return true;
}

void Gemma4Model::lm_head(const Step& step, const Activations& a, ResidualStream& stream) {
  Backend& be = backend_;
  be.norm_stream(stream, a.h, weights_.norm, eps_);  // [T, H]
  if (step.observer != nullptr) step.observer->hidden(config_.num_hidden_layers, a.h);
  if (step.logit_rows.empty()) return;
  be.gather_rows(a.last, a.h, step.logit_rows);   // [R, H]
  be.linear(a.logits, a.last, weights_.lm_head);  // [R, V]
  if (const auto cap = final_cap(config_)) be.soft_cap(a.logits, *cap);
}

// What a branch gives is not added to x at once, but by the op that needs x next: x is `stream`.
void Gemma4Model::decoder_layer(int32_t index,
                                const Step& step,
                                const Activations& a,
                                ResidualStream& stream) {
  const LayerWeights& w = weights_.layers[static_cast<size_t>(index)];
  Backend& be = backend_;

  attention(index, step, a, stream);                                       // h = Attn(norm(x))
  stream.pending = {.branch = a.h, .weight = w.post_attention_layernorm};  // x += norm(h)
  if (step.observer != nullptr) {
    be.settle(stream, eps_);
    step.observer->after_attention(index, stream.x);
  }

  feed_forward(index, step, a, stream);  // x = (x + norm(MLP(norm(x)) [+ experts])) * scalar
  if (!has_ple()) return;

  be.settle(stream, eps_);
  be.linear(a.ple_gate, stream.x, w.per_layer_input_gate);                    // [T, P]
  be.gather_rows(a.ple_layer, a.ple, rows_of_layer(index, stream.x.rows()));  // [T, P]
  be.activate(a.ple_gate, a.ple_gate, a.ple_layer,
              {activation_.function, Gating::kGated});  // act(gate) * ple
  be.linear(a.h, a.ple_gate, w.per_layer_projection);   // [T, H]
  stream.pending = {.branch = a.h,
                    .weight = w.post_per_layer_input_norm,
                    .factor = w.layer_scalar};  // x = (x + norm(h)) * scalar
}

void Gemma4Model::attention(int32_t index,
                            const Step& step,
                            const Activations& a,
                            ResidualStream& stream) {
  const LayerConfig& c = config_.layers[static_cast<size_t>(index)];
  const LayerWeights& layer = weights_.layers[static_cast<size_t>(index)];
  const AttentionWeights& w = layer.self_attn;
  const RopeTable& rope = rope_[static_cast<size_t>(index)];
  const KvView kv = kv_of(index, step.kv);
  const int64_t rows = a.h.rows();
  Backend& be = backend_;

  const TensorView q = scratch_view(a.q, {rows, c.num_heads, c.head_dim});
  AttentionRows projected = {q, {}, {}, c.k_eq_v, w.q_norm, w.k_norm};
  std::vector<Projection> products = {{q.reshaped({rows, c.q_size()}), w.q_proj}};  // [T, Q*D]
  if (c.kv_donor == index) {
    projected.k = scratch_view(a.k, {rows, c.num_kv_heads, c.head_dim});
    projected.v = scratch_view(a.v, {rows, c.num_kv_heads, c.head_dim});
    products.push_back({projected.k.reshaped({rows, c.kv_size()}), w.k_proj});  // [T, K*D]
    if (!c.k_eq_v) products.push_back({projected.v.reshaped({rows, c.kv_size()}), w.v_proj});
  }
  be.project(stream, a.h, layer.input_layernorm, products, eps_);
  // q, k, v: norms per head, q and k rotated; k and v to the cache (2.5); scores not scaled
  const TensorView o = scratch_view(a.attended, {rows, c.num_heads, c.head_dim});
  be.attend(o, projected, kv, rope, c.window, step.batch, eps_);  // [T, Q, D]
  be.linear(a.h, o.reshaped({rows, c.q_size()}), w.o_proj);       // [T, H]
}

void Gemma4Model::feed_forward(int32_t index,
                               const Step& step,
                               const Activations& a,
                               ResidualStream& stream) {
  const LayerConfig& c = config_.layers[static_cast<size_t>(index)];
  Backend& be = backend_;

  const Shape inner = {a.h.rows(), c.intermediate_size};
  FeedForwardRows rows = {.h = a.h,
                          .gate = {},
                          .inner = scratch_view(a.up, inner),
                          .dense = a.dense,
                          .experts_in = a.experts_in,
                          .sparse = a.sparse,
                          .routing = {a.router_experts, a.router_weights}};
  if (activation_.gating == Gating::kGated) rows.gate = scratch_view(a.gate, inner);
  const FeedForward layer = feed_forward_of(index);
  // inner = act(gate · norm(x)) * (up · norm(x)) [T, I]; which experts [T, top_k]
  be.enter_feed_forward(stream, rows, layer, eps_);
  if (c.sparse && step.observer != nullptr) step.observer->routing(index, rows.routing);
  // dense = down · inner [T, H]; sparse = the experts' [T, H]
  be.leave_feed_forward(rows, layer);
  stream.pending = result_of(index, a);
}

FeedForward Gemma4Model::feed_forward_of(int32_t index) const {
  const LayerWeights& w = weights_.layers[static_cast<size_t>(index)];
  FeedForward layer = {.norm = w.pre_feedforward_layernorm,
                       .gate = w.mlp.gate_proj,
                       .up = w.mlp.up_proj,
                       .down = w.mlp.down_proj,
                       .activation = activation_};
  if (config_.layers[static_cast<size_t>(index)].sparse) {
    // Routing looks at the residual stream itself, not at any normalised copy (2.4).
    layer.experts = &w.experts;
    layer.router = {w.router.proj, w.router.scale, w.router.per_expert_scale};
    layer.experts_norm = w.pre_feedforward_layernorm_2;
  }
  return layer;
}

PendingBranch Gemma4Model::result_of(int32_t index, const Activations& a) const {
  const LayerWeights& w = weights_.layers[static_cast<size_t>(index)];
  PendingBranch result = {.branch = a.dense,
                          .weight = w.post_feedforward_layernorm,
                          .factor = has_ple() ? 1.0F : w.layer_scalar};
  if (config_.layers[static_cast<size_t>(index)].sparse) {
    result.sparse = a.sparse;
    result.branch_norm = w.post_feedforward_layernorm_1;
    result.sparse_norm = w.post_feedforward_layernorm_2;
  }
  return result;
}

Decoded Gemma4Model::whole_step(const Step& step, const Activations& a, ResidualStream& stream) {
  const int64_t rows = a.x.rows();
  const bool single = rows == std::ssize(step.batch.sequences);
  if (rows > backend_.most_whole_rows() || !single || has_ple() || step.observer != nullptr)
    return Decoded::kNothing;
  std::vector<DecoderLayer> layers;
  for (int32_t index = 0; index < config_.num_hidden_layers; ++index) {
    const LayerConfig& c = config_.layers[static_cast<size_t>(index)];
    if (c.kv_donor != index) return Decoded::kNothing;
    const LayerWeights& layer = weights_.layers[static_cast<size_t>(index)];
    const AttentionWeights& w = layer.self_attn;
    layers.push_back({.attention_in_norm = layer.input_layernorm,
                      .attention_out_norm = layer.post_attention_layernorm,
                      .q = w.q_proj,
                      .k = w.k_proj,
                      .v = w.v_proj,
                      .o = w.o_proj,
                      .v_is_k = c.k_eq_v,
                      .q_norm = w.q_norm,
                      .k_norm = w.k_norm,
                      .rope = rope_[static_cast<size_t>(index)],
                      .window = c.window,
                      .kv = kv_of(index, step.kv),
                      .feed_forward = feed_forward_of(index),
                      .result = result_of(index, a)});
  }
  const bool all_rows = std::ssize(step.logit_rows) == rows;  // which then stand in order
  const Decoder decoder = {.embedding = {weights_.embed_tokens, ids_, embedding_scale(config_)},
                           .layers = layers,
                           .head = {.norm = weights_.norm,
                                    .w = weights_.lm_head,
                                    .cap = final_cap(config_),
                                    .logits = all_rows ? a.logits : TensorView()},
                           .top_k = config_.top_k_experts,
                           .eps = eps_};
  return backend_.decode(stream, decoder, step.batch);
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
