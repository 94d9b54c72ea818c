#include "cli/kernel_lines.h"

#include <algorithm>
#include <array>
#include <boost/json/object.hpp>
#include <utility>

#include "base/log.h"
#include "kernels/gpu_limits.h"
#include "kernels/step_choice.h"

namespace facet::cli {
namespace {

void add(std::vector<KernelLine>& to, KernelLine line) {
  if (std::find(to.begin(), to.end(), line) == to.end()) to.push_back(std::move(line));
}

std::string name_of(WeightFormat format) { return std::string(to_string(format)); }

/// Of attention and the dense branch; some layers lack some.
std::array<const WeightMatrix*, 7> matrices_of(const gemma4::LayerWeights& layer) {
  const gemma4::AttentionWeights& a = layer.self_attn;
  return {&a.q_proj,          &a.k_proj,           &a.v_proj, &a.o_proj, &layer.mlp.gate_proj,
          &layer.mlp.up_proj, &layer.mlp.down_proj};
}

void add_linears(std::vector<KernelLine>& to,
                 const gemma4::Weights& weights,
                 const KernelChooser& chooser) {
  const auto linear = [&](const WeightMatrix& matrix) {
    if (!matrix.empty())
      add(to, {"linears", name_of(matrix.format), chooser.linear_kernel(matrix)});
  };
  for (const gemma4::LayerWeights& layer : weights.layers) {
    for (const WeightMatrix* matrix : matrices_of(layer)) linear(*matrix);
    linear(layer.per_layer_input_gate);
    linear(layer.per_layer_projection);
  }
  linear(weights.per_layer_model_projection);
  linear(weights.lm_head);
}

StepQuery step_query(const gemma4::Gemma4Config& config,
                     const gemma4::Weights& weights,
                     const Activation& activation,
                     DType kv) {
  StepQuery query;
  query.widths.hidden = config.hidden_size;
  query.widths.expert_width = config.moe_intermediate_size;
  query.widths.experts = config.num_experts;
  query.widths.top_k = config.top_k_experts;
  query.gating = activation.gating;
  query.kv = kv;
  query.per_layer_inputs = config.hidden_size_per_layer_input > 0;
  bool all_sparse = true;
  for (size_t index = 0; index < weights.layers.size(); ++index) {
    const gemma4::LayerConfig& layer = config.layers[index];
    const StepKind kind = {layer.head_dim, layer.num_heads, layer.num_kv_heads, layer.window,
                           layer.rope.rotated_pairs};
    if (std::ranges::find(query.kinds, kind) == query.kinds.end()) query.kinds.push_back(kind);
    query.widths.dense_width = std::max<int64_t>(query.widths.dense_width, layer.intermediate_size);
    query.own_caches = query.own_caches && layer.kv_donor == static_cast<int32_t>(index);
    const gemma4::LayerWeights& of = weights.layers[index];
    for (const WeightMatrix* matrix : matrices_of(of))
      if (!matrix->empty()) query.matrices.insert(matrix->format);
    all_sparse = all_sparse && !of.experts.empty();
    for (const ExpertMatrices& expert : of.experts.experts)
      for (const WeightMatrix* matrix : {&expert.gate, &expert.up, &expert.down})
        if (!matrix->empty()) query.experts.insert(matrix->format);
  }
  if (!all_sparse) query.experts.clear();
  return query;
}

ModelTraits traits_of(const gemma4::Weights& weights) {
  ModelTraits traits;
  const auto see = [&](const WeightMatrix& matrix) {
    traits.nvfp4 = traits.nvfp4 || matrix.format == WeightFormat::kNvfp4;
  };
  for (const gemma4::LayerWeights& layer : weights.layers) {
    for (const WeightMatrix* matrix : matrices_of(layer)) see(*matrix);
    if (layer.experts.empty()) continue;
    traits.experts = true;
    see(layer.experts.experts.front().up);
  }
  return traits;
}

GpuDimensions dimensions_of(const gemma4::Gemma4Config& config, const gemma4::Weights& weights) {
  GpuDimensions dimensions;
  dimensions.vocab_size = config.vocab_size;
  dimensions.hidden_size = config.hidden_size;
  dimensions.num_experts = config.num_experts;
  dimensions.top_k_experts = config.top_k_experts;
  dimensions.moe_intermediate_size = config.moe_intermediate_size;
  dimensions.num_hidden_layers = config.num_hidden_layers;
  dimensions.hidden_size_per_layer_input = config.hidden_size_per_layer_input;
  for (const gemma4::LayerConfig& layer : config.layers) {
    const bool full = layer.attention == gemma4::LayerConfig::Attention::kFull;
    (full ? dimensions.global_head_dim : dimensions.head_dim) = layer.head_dim;
  }
  std::vector<WeightFormat>& formats = dimensions.expert_formats;
  for (const gemma4::LayerWeights& layer : weights.layers) {
    if (layer.experts.empty()) continue;
    const WeightFormat format = layer.experts.experts.front().up.format;
    if (std::find(formats.begin(), formats.end(), format) == formats.end())
      formats.push_back(format);
  }
  return dimensions;
}

}  // namespace

bool KernelLine::operator==(const KernelLine& other) const {
  return kind == other.kind && format == other.format && choice.kernel == other.choice.kernel &&
         choice.why == other.choice.why;
}

std::vector<KernelLine> kernel_lines(const gemma4::Gemma4Config& config,
                                     const gemma4::Weights& weights,
                                     const Activation& activation,
                                     DType kv,
                                     const KernelChooser& chooser) {
  std::vector<KernelLine> lines;
  for (const gemma4::LayerWeights& layer : weights.layers) {
    if (layer.experts.empty()) continue;
    add(lines, {"experts", name_of(layer.experts.experts.front().up.format),
                chooser.experts_kernel(layer.experts, activation)});
  }
  for (const gemma4::LayerConfig& layer : config.layers) {
    const AttentionShape shape = {kv, layer.head_dim, layer.num_heads, layer.num_kv_heads};
    add(lines, {"attention", std::string(to_string(kv)), chooser.attention_kernel(shape)});
  }
  add_linears(lines, weights, chooser);
  if (const auto step = chooser.step_kernel(step_query(config, weights, activation, kv)))
    add(lines, {"steps", std::string(to_string(kv)), *step});
  return lines;
}

boost::json::array kernels_json(const std::vector<KernelLine>& lines) {
  boost::json::array list;
  for (const KernelLine& line : lines) {
    list.push_back(boost::json::object{{"kind", line.kind},
                                       {"format", line.format},
                                       {"kernel", line.choice.kernel},
                                       {"why", line.choice.why}});
  }
  return list;
}

void check_gpu_model(const GpuSetup& setup,
                     const gemma4::Gemma4Config& config,
                     const gemma4::Weights& weights) {
  check_wishes(setup.wishes, traits_of(weights));
  check_dimensions(setup, dimensions_of(config, weights));
}

void log_kernels(const std::vector<KernelLine>& lines) {
  for (const KernelLine& line : lines)
    log_info("kernels", "{}: {} (because {})", line.kind, line.choice.kernel, line.choice.why);
}

}  // namespace facet::cli
