#include "model/gemma4/synth_plan.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <fmt/core.h>
#include <optional>
#include <set>
#include <utility>

#include "base/check.h"
#include "checkpoint/linear_dialect.h"
#include "model/gemma4/synth_scales.h"
#include "model/gemma4/tensor_slots.h"

namespace facet::gemma4 {
namespace {

// Codes in units of their scale. Producers let the largest magnitude under a scale meet the largest
// code; for a normal law that makes the standard deviation about half of it under an NVFP4 block or
// an INT4 group, a quarter under an FP8 row.
constexpr Law kE2m1Codes = {Law::Shape::kNormal, 0.0, 2.9};
constexpr Law kInt4Codes = {Law::Shape::kNormal, 0.0, 3.1};
constexpr Law kE4m3Codes = {Law::Shape::kNormal, 0.0, 100.0};
/// E4M3 scales of NVFP4 blocks: below the 448 that the largest block of a matrix gets.
constexpr Law kBlockScales = {Law::Shape::kUniform, 160.0, 96.0};
constexpr double kScaleSpread = 0.3;       // of FP8 and INT4 scales around their mean, relative
constexpr double kMatrixSpread = 0.25;     // log2 of how far the matrices of a layer differ in size
constexpr double kE2m1TimesE4m3 = 2688.0;  // 6 * 448
constexpr double kLargestE4m3 = 448.0;

/// N of "layers.N.…", or -1.
int32_t layer_of(std::string_view text_name) {
  constexpr std::string_view kLayers = "layers.";
  int32_t layer = -1;
  if (text_name.starts_with(kLayers)) {
    text_name.remove_prefix(kLayers.size());
    std::from_chars(text_name.data(), text_name.data() + text_name.size(), layer);
  }
  return layer;
}

Law around(double mean, double relative_spread) {
  return {Law::Shape::kUniform, mean, mean * relative_spread};
}

Law constant(double value) { return {Law::Shape::kUniform, value, 0.0}; }

Law law_of_codes(DType dtype) {
  if (dtype == DType::kU8) return kE2m1Codes;
  return dtype == DType::kI32 ? kInt4Codes : kE4m3Codes;
}

class Planner {
 public:
  Planner(const Gemma4Config& config, const QuantConfig& quant, uint64_t seed)
      : config_(config),
        quant_(quant),
        scales_(config),
        prefix_(config.architecture == "Gemma4ForCausalLM" ? "model." : "model.language_model.") {
    plan_.seed = seed;
  }

  SynthPlan plan(const TensorSlots& slots) {
    const std::vector<DeclaredLinear> linears = slots.linears();
    std::set<const ExpertSlots*> split;  // stored as per-expert modules
    for (const DeclaredLinear& linear : linears) {
      if (linear.experts != nullptr && scheme_of(linear)) split.insert(linear.experts);
    }
    for (const DeclaredLinear& linear : linears) {
      if (linear.experts == nullptr || split.contains(linear.experts)) add_linear(linear);
    }
    for (const ExpertSlots& experts : slots.experts()) {
      if (!split.contains(&experts)) add_fused(experts);
    }
    for (const DeclaredVector& vector : slots.vectors()) add_vector(vector);
    if (quant_.method() == QuantMethod::kNone) add_unused_kv();
    finish();
    return std::move(plan_);
  }

 private:
  std::string full_name(std::string_view text_name) const {
    if (text_name.starts_with("lm_head")) return std::string(text_name);
    return prefix_ + std::string(text_name);
  }

  std::optional<QuantScheme> scheme_of(const DeclaredLinear& linear) const {
    if (!linear.may_be_quantized) return std::nullopt;
    return quant_.scheme_of(full_name(linear.module));
  }

  void add(const std::string& text_name,
           DType dtype,
           const Shape& shape,
           const Law& law,
           std::array<int64_t, 2> extents = {}) {
    SynthTensor tensor = {full_name(text_name), dtype, shape, 0, law, extents};
    tensor.bytes = shape.elements() * bits_of(dtype) / 8;
    plan_.bytes += tensor.bytes;
    plan_.tensors.push_back(std::move(tensor));
    order_.emplace_back(layer_of(text_name), plan_.tensors.size() - 1);
  }

  void add_matrix(const std::string& text_name, const Shape& shape, double deviation) {
    add(text_name, DType::kBF16, shape, {Law::Shape::kNormal, 0.0, deviation});
  }

  void add_linear(const DeclaredLinear& linear) {
    const std::optional<QuantScheme> scheme = scheme_of(linear);
    const std::string module(linear.module);
    const double deviation = scales_.matrix(linear.module, linear.shape.cols);
    const std::vector<PartForm> parts = stored_parts(
        {full_name(module), linear.shape.rows, linear.shape.cols}, scheme, quant_.method());
    if (!scheme) {
      add_matrix(module + ".weight", parts.front().shape, deviation);
      return;
    }
    const DType codes = parts.front().dtype;
    const double unit = deviation / tables_.get(codes, law_of_codes(codes)).rms();
    for (const PartForm& part : parts) {
      add(module + "." + std::string(part.suffix), part.dtype, part.shape,
          law_of_part(linear.module, *scheme, part, unit), {linear.shape.rows, linear.shape.cols});
    }
  }

  /// `unit`: what one of the codes must be worth, as root mean square over the matrix.
  Law law_of_part(std::string_view module,
                  const QuantScheme& scheme,
                  const PartForm& part,
                  double unit) {
    const bool nvfp4 = scheme.format == WeightFormat::kNvfp4;
    const auto global_scale = [&] {
      return unit / tables_.get(DType::kF8E4M3, kBlockScales).rms() *
             variation(module, "weight_scale_2");
    };
    const auto input_scale = [&] {
      return scales_.input_amax(module) / (nvfp4 ? kE2m1TimesE4m3 : kLargestE4m3) *
             variation(module, "input_scale");
    };
    switch (part.role) {
      case PartRole::kValues:
        return law_of_codes(part.dtype);
      case PartRole::kScales:
        if (nvfp4) return kBlockScales;
        return around(unit / std::sqrt(1.0 + kScaleSpread * kScaleSpread / 3.0), kScaleSpread);
      case PartRole::kGlobalScale:
        return constant(global_scale());
      case PartRole::kInverseGlobalScale:
        return constant(1.0 / global_scale());
      case PartRole::kInputScale:
        return constant(input_scale());
      case PartRole::kInverseInputScale:
        return constant(1.0 / input_scale());
      case PartRole::kStoredShape:
        return {};  // its extents are what it holds
      case PartRole::kZeroPoints:
      case PartRole::kGroupIndex:
        break;
    }
    CHECK(false, "{}: no values for {}", module, part.suffix);
    return {};
  }

  /// A factor near 1 of one module; gate and up of an expert or MLP share theirs, as producers have
  /// it (checkpoint-formats 2.6).
  double variation(std::string_view module, std::string_view what) const {
    std::string name = full_name(module);
    for (const std::string_view leaf : {".gate_proj", ".up_proj"}) {
      if (name.ends_with(leaf)) name.resize(name.size() - leaf.size());
    }
    const uint64_t key = random_key(plan_.seed, fmt::format("{}/{}", name, what));
    return std::exp2(kMatrixSpread * (2.0 * random_unit(key) - 1.0));
  }

  void add_fused(const ExpertSlots& experts) {
    const auto [count, width, hidden] = experts.shape;
    const int64_t halves = experts.gating == Gating::kGated ? 2 : 1;
    const std::string gate_up = experts.name + ".gate_up_proj";
    const std::string down = experts.name + ".down_proj";
    add_matrix(gate_up, {count, halves * width, hidden}, scales_.matrix(gate_up, hidden));
    add_matrix(down, {count, hidden, width}, scales_.matrix(down, width));
  }

  void add_vector(const DeclaredVector& vector) {
    const std::string name(vector.name);
    if (vector.required) {
      add(name, DType::kBF16, vector.shape, scales_.vector(vector.name, vector.shape.elements()));
      return;
    }
    if (quant_.method() != QuantMethod::kCompressedTensors || !quant_.kv_fp8()) return;
    const LayerConfig& layer = config_.layers[static_cast<size_t>(layer_of(name))];
    if (name.ends_with("self_attn.k_scale")) {
      add(name, DType::kBF16, vector.shape, around(scales_.k_scale(layer.head_dim), kScaleSpread));
    } else if (name.ends_with("self_attn.v_scale")) {
      add(name, DType::kBF16, vector.shape, around(scales_.v_scale(), kScaleSpread));
    }
  }

  void add_unused_kv() {
    const int64_t hidden = config_.hidden_size;
    for (size_t i = 0; i < config_.layers.size(); ++i) {
      const LayerConfig& layer = config_.layers[i];
      if (layer.kv_donor == static_cast<int32_t>(i)) continue;
      const std::string at = fmt::format("layers.{}.self_attn.", i);
      const Shape shape = {layer.kv_size(), hidden};
      add_matrix(at + "k_proj.weight", shape, scales_.matrix(at + "k_proj", hidden));
      if (!layer.k_eq_v) {
        add_matrix(at + "v_proj.weight", shape, scales_.matrix(at + "v_proj", hidden));
      }
      const std::string norm = at + "k_norm.weight";
      add(norm, DType::kBF16, {layer.head_dim}, scales_.vector(norm, layer.head_dim));
    }
  }

  /// By layer, then by name: a shard then holds whole layers, but for the two at its ends.
  void finish() {
    std::sort(order_.begin(), order_.end(), [this](const auto& a, const auto& b) {
      if (a.first != b.first) return a.first < b.first;
      return plan_.tensors[a.second].name < plan_.tensors[b.second].name;
    });
    std::vector<SynthTensor> sorted;
    sorted.reserve(order_.size());
    for (const auto& [layer, index] : order_) sorted.push_back(std::move(plan_.tensors[index]));
    plan_.tensors = std::move(sorted);
  }

  const Gemma4Config& config_;
  const QuantConfig& quant_;
  const SynthScales scales_;
  const std::string prefix_;
  RandomTables tables_;
  SynthPlan plan_;
  std::vector<std::pair<int32_t, size_t>> order_;  // layer and place in plan_.tensors
};

}  // namespace

SynthPlan plan_synth(const Gemma4Config& config,
                     const QuantConfig& quant,
                     const Activation& activation,
                     uint64_t seed) {
  Weights weights;  // the slots point into it; nothing is filled
  const TensorSlots slots = declare_weights(config, activation, weights);
  return Planner(config, quant, seed).plan(slots);
}

}  // namespace facet::gemma4
