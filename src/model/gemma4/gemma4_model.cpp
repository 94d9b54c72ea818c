#include "model/gemma4/gemma4_model.h"

#include <algorithm>
#include <functional>
#include <map>
#include <tuple>

#include "base/check.h"
#include "model/gemma4/operands.h"

namespace facet::gemma4 {
namespace {

/// Layers of equal KV shape and window share a group. Only layers with a cache of their own count.
using GroupKey = std::tuple<int32_t, int32_t, int32_t>;  // K, D, window

GroupKey group_key(const LayerConfig& layer) {
  return {layer.num_kv_heads, layer.head_dim, layer.window};
}

struct Groups {
  std::vector<GroupKey> keys;                 // in order of first appearance
  std::vector<std::vector<int32_t>> members;  // layers, by group
};

Groups group_layers(const std::vector<LayerConfig>& layers) {
  Groups groups;
  for (size_t i = 0; i < layers.size(); ++i) {
    if (layers[i].kv_donor != static_cast<int32_t>(i)) continue;
    const GroupKey key = group_key(layers[i]);
    const auto found = std::find(groups.keys.begin(), groups.keys.end(), key);
    const auto g = static_cast<size_t>(found - groups.keys.begin());
    if (found == groups.keys.end()) {
      groups.keys.push_back(key);
      groups.members.emplace_back();
    }
    groups.members[g].push_back(static_cast<int32_t>(i));
  }
  return groups;
}

}  // namespace

Gemma4Model::Gemma4Model(Gemma4Config config,
                         Weights weights,
                         Activation activation,
                         Backend& backend,
                         StepLimits limits)
    : config_(std::move(config)),
      weights_(std::move(weights)),
      activation_(activation),
      limits_(limits),
      eps_(static_cast<float>(config_.rms_norm_eps)),
      backend_(backend) {
  for (const LayerConfig& layer : config_.layers) {
    rope_.push_back(
        make_rope_table(layer.head_dim, layer.rope.rope_theta, layer.rope.rotated_pairs));
  }
  cache_layer_.resize(config_.layers.size(), -1);
  int32_t place = 0;
  for (const std::vector<int32_t>& members : group_layers(config_.layers).members) {
    for (const int32_t layer : members) cache_layer_[static_cast<size_t>(layer)] = place++;
  }
  for (size_t i = 0; i < config_.layers.size(); ++i) {
    cache_layer_[i] = cache_layer_[static_cast<size_t>(config_.layers[i].kv_donor)];
  }
  allocate_scratch();
  load();
}

void Gemma4Model::load() {
  if (has_ple()) {
    ple_rows_.resize(config_.layers.size());
    for (size_t layer = 0; layer < ple_rows_.size(); ++layer) {
      for (int32_t t = 0; t < limits_.max_rows; ++t) {
        ple_rows_[layer].push_back(t * config_.num_hidden_layers + static_cast<int32_t>(layer));
      }
    }
  }
  ModelOperands operands = operands_of(weights_);
  operands.activation = activation_;
  for (const RopeTable& table : rope_) operands.vectors.emplace_back(table.frequencies);
  for (const std::vector<int32_t>& rows : ple_rows_) operands.row_lists.emplace_back(rows);
  backend_.load(operands);
}

std::vector<KvGroupSpec> Gemma4Model::kv_groups(int32_t page_size, DType dtype) const {
  const Groups groups = group_layers(config_.layers);
  std::vector<KvGroupSpec> specs;
  for (size_t g = 0; g < groups.keys.size(); ++g) {
    const auto& [kv_heads, head_dim, window] = groups.keys[g];
    specs.push_back({static_cast<int32_t>(groups.members[g].size()),
                     {kv_heads, head_dim, page_size, dtype},
                     window});
  }
  return specs;
}

KvView Gemma4Model::kv_of(int32_t index, std::span<const KvView> kv) const {
  KvView view = kv[static_cast<size_t>(cache_layer_[static_cast<size_t>(index)])];
  const auto donor = static_cast<size_t>(config_.layers[static_cast<size_t>(index)].kv_donor);
  if (view.layout.dtype == DType::kF8E4M3) {
    view.k_scale = weights_.layers[donor].self_attn.k_scale;
    view.v_scale = weights_.layers[donor].self_attn.v_scale;
  }
  return view;
}

TensorView Gemma4Model::scratch_view(TensorView room, const Shape& shape) {
  CHECK(shape.elements() <= room.elements(), "{} in {}", to_string(shape), to_string(room.shape()));
  return {room.data(), room.dtype(), shape, room.device()};
}

void Gemma4Model::allocate_scratch() {
  const int64_t rows = limits_.max_rows;
  const int64_t logit_rows = limits_.max_logit_rows;
  const int64_t hidden = config_.hidden_size;
  const int64_t top_k = config_.top_k_experts;
  const int64_t width = config_.hidden_size_per_layer_input;
  int64_t q = 0;
  int64_t kv = 0;
  int64_t inner = 0;
  for (const LayerConfig& layer : config_.layers) {
    q = std::max<int64_t>(q, layer.q_size());
    kv = std::max<int64_t>(kv, layer.kv_size());
    inner = std::max<int64_t>(inner, layer.intermediate_size);
  }
  struct Want {
    TensorView Activations::*member;
    Shape shape;
    DType dtype = DType::kF32;
  };
  std::vector<Want> wants = {
      {&Activations::x, {rows, hidden}},
      {&Activations::spare, {rows, hidden}},
      {&Activations::h, {rows, hidden}},
      {&Activations::q, {rows, q}},
      {&Activations::k, {rows, kv}},
      {&Activations::v, {rows, kv}},
      {&Activations::attended, {rows, q}},
      {&Activations::gate, {rows, inner}},
      {&Activations::up, {rows, inner}},
      {&Activations::dense, {rows, hidden}},
      {&Activations::last, {logit_rows, hidden}},
      {&Activations::logits, {logit_rows, config_.vocab_size}},
  };
  if (config_.num_experts > 0) {
    wants.push_back({&Activations::experts_in, {rows, hidden}});
    wants.push_back({&Activations::sparse, {rows, hidden}});
    wants.push_back({&Activations::router_experts, {rows, top_k}, DType::kI32});
    wants.push_back({&Activations::router_weights, {rows, top_k}});
  }
  if (has_ple()) {
    const Shape all = {rows * config_.num_hidden_layers, width};
    wants.push_back({&Activations::ple, all});
    wants.push_back({&Activations::ple_token, all});
    wants.push_back({&Activations::ple_gate, {rows, width}});
    wants.push_back({&Activations::ple_layer, {rows, width}});
  }
  int64_t bytes = 0;
  for (const Want& want : wants) bytes += Arena::bytes_for(want.dtype, want.shape);
  arena_ = Arena(Buffer(bytes, backend_.allocator()));
  for (const Want& want : wants) scratch_.*want.member = arena_.take(want.dtype, want.shape);
}

Gemma4Model::Activations Gemma4Model::activations(int64_t rows, int64_t logit_rows) const {
  Activations a = scratch_;
  for (TensorView* view : {&a.x, &a.spare, &a.h, &a.dense}) *view = view->slice_rows(0, rows);
  if (config_.num_experts > 0) {
    for (TensorView* view : {&a.experts_in, &a.sparse, &a.router_experts, &a.router_weights}) {
      *view = view->slice_rows(0, rows);
    }
  }
  if (has_ple()) {
    for (TensorView* view : {&a.ple, &a.ple_token}) {
      *view = view->slice_rows(0, rows * config_.num_hidden_layers);
    }
    for (TensorView* view : {&a.ple_gate, &a.ple_layer}) *view = view->slice_rows(0, rows);
  }
  a.last = a.last.slice_rows(0, logit_rows);
  a.logits = a.logits.slice_rows(0, logit_rows);
  return a;
}

std::span<const int32_t> Gemma4Model::rows_of_layer(int32_t index, int64_t rows) const {
  return std::span(ple_rows_[static_cast<size_t>(index)]).first(static_cast<size_t>(rows));
}

}  // namespace facet::gemma4
