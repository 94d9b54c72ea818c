#include "model/gemma4/step_cost.h"

#include <algorithm>

namespace facet::gemma4 {
namespace {

class Counter {
 public:
  explicit Counter(int64_t rows) : rows_(rows) {}

  /// A matrix that is read once and multiplied with `rows` rows.
  void product(const WeightMatrix& matrix, int64_t rows) {
    if (matrix.empty()) return;
    cost_.weight_bytes += stored_bytes(matrix);
    multiply_adds_ += static_cast<double>(matrix.rows * matrix.cols) * static_cast<double>(rows);
  }
  void product(const WeightMatrix& matrix) { product(matrix, rows_); }

  void layer(const LayerConfig& config, const LayerWeights& w) {
    product(w.self_attn.q_proj);
    if (!w.self_attn.k_proj.empty()) {
      product(w.self_attn.k_proj);
      if (!config.k_eq_v) product(w.self_attn.v_proj);
    }
    product(w.self_attn.o_proj);
    product(w.mlp.gate_proj);
    product(w.mlp.up_proj);
    product(w.mlp.down_proj);
    product(w.router.proj);
    product(w.per_layer_input_gate);
    product(w.per_layer_projection);
  }

  /// The chosen experts are read; the products are those of top_k experts a row.
  void experts(const ExpertWeights& all,
               int64_t top_k,
               const ExpertCounter& counter,
               size_t layer) {
    for (size_t e = 0; e < all.experts.size(); ++e) {
      if (!counter.chosen(layer, e)) continue;
      const ExpertMatrices& expert = all.experts[e];
      for (const WeightMatrix* m : {&expert.gate, &expert.up, &expert.down}) {
        if (!m->empty()) cost_.weight_bytes += stored_bytes(*m);
      }
    }
    if (all.empty()) return;
    const ExpertMatrices& any = all.experts.front();
    const int64_t values =
        any.gate.rows * any.gate.cols + any.up.rows * any.up.cols + any.down.rows * any.down.cols;
    multiply_adds_ += static_cast<double>(values) * static_cast<double>(rows_ * top_k);
  }

  void attention(const LayerConfig& config, const SequenceShape& sequence, DType kv_dtype) {
    const int64_t end = sequence.context + sequence.rows;
    const int64_t seen =
        config.window == 0 ? end : std::min(end, sequence.rows + config.window - 1);
    cost_.kv_bytes += seen * 2 * config.kv_size() * bits_of(kv_dtype) / 8;
    int64_t pairs = 0;  // of a row and a position it sees
    for (int64_t p = sequence.context; p < end; ++p) {
      pairs += config.window == 0 ? p + 1 : std::min<int64_t>(p + 1, config.window);
    }
    multiply_adds_ += 2.0 * static_cast<double>(pairs) * static_cast<double>(config.q_size());
  }

  void table_rows(const WeightMatrix& table) {
    if (!table.empty()) cost_.weight_bytes += rows_ * row_bytes(table);
  }

  StepCost result() const {
    StepCost cost = cost_;
    cost.flops = 2.0 * multiply_adds_;
    return cost;
  }

 private:
  const int64_t rows_;
  StepCost cost_;
  double multiply_adds_ = 0;
};

}  // namespace

ExpertCounter::ExpertCounter(const Gemma4Config& config)
    : chosen_(config.layers.size(),
              std::vector<bool>(static_cast<size_t>(config.num_experts), false)) {}

void ExpertCounter::clear() {
  for (std::vector<bool>& layer : chosen_) layer.assign(layer.size(), false);
}

void ExpertCounter::routing(int32_t layer, const Routing& routing) {
  std::vector<bool>& chosen = chosen_[static_cast<size_t>(layer)];
  for (const int32_t e : routing.experts.as<int32_t>()) chosen[static_cast<size_t>(e)] = true;
}

double ExpertCounter::chosen_per_layer() const {
  int64_t chosen = 0;
  int64_t layers = 0;
  for (const std::vector<bool>& layer : chosen_) {
    const auto some = std::count(layer.begin(), layer.end(), true);
    chosen += some;
    if (some > 0) ++layers;
  }
  return layers == 0 ? 0 : static_cast<double>(chosen) / static_cast<double>(layers);
}

StepCost step_cost(const Gemma4Config& config,
                   const Weights& weights,
                   DType kv_dtype,
                   std::span<const SequenceShape> sequences,
                   int64_t logit_rows,
                   const ExpertCounter& experts) {
  int64_t rows = 0;
  for (const SequenceShape& sequence : sequences) rows += sequence.rows;
  Counter counter(rows);
  const bool tied = weights.lm_head.data == weights.embed_tokens.data;
  if (!tied || logit_rows == 0) counter.table_rows(weights.embed_tokens);
  counter.table_rows(weights.embed_tokens_per_layer);
  counter.product(weights.per_layer_model_projection);
  for (size_t l = 0; l < config.layers.size(); ++l) {
    const LayerWeights& w = weights.layers[l];
    counter.layer(config.layers[l], w);
    counter.experts(w.experts, config.top_k_experts, experts, l);
    for (const SequenceShape& sequence : sequences) {
      counter.attention(config.layers[l], sequence, kv_dtype);
    }
  }
  if (logit_rows > 0) counter.product(weights.lm_head, logit_rows);
  return counter.result();
}

}  // namespace facet::gemma4
