#include "verify/plant.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <fmt/core.h>
#include <numbers>
#include <utility>

#include "base/check.h"
#include "base/error.h"
#include "kernels/wrapped_backend.h"

namespace facet {
namespace {

using gemma4::LayerConfig;
using gemma4::LayerWeights;

constexpr std::array<std::pair<std::string_view, Plant>, 6> kNames = {{
    {"swap-gate-up", Plant::kSwapGateUp},
    {"drop-layer-scalar", Plant::kDropLayerScalar},
    {"window-off-by-one", Plant::kWindowOffByOne},
    {"gate-scale-for-up", Plant::kGateScaleForUp},
    {"neighbour-expert", Plant::kNeighbourExpert},
    {"erf-gelu", Plant::kErfGelu},
}};

[[noreturn]] void changes_nothing(std::string_view reason) {
  throw Error(ErrorCode::kBadInput, fmt::format("{}: the plant changes nothing", reason),
              "--plant");
}

/// The middle one of the layers that `can` says yes to; `reason` says why there is none.
template <typename Can>
size_t choose_layer(const PlantTarget& target, std::string_view reason, const Can& can) {
  std::vector<size_t> layers;
  for (size_t i = 0; i < target.weights.layers.size(); ++i) {
    if (can(i)) layers.push_back(i);
  }
  if (layers.empty()) changes_nothing(reason);
  return layers[layers.size() / 2];
}

bool both_nvfp4(const ExpertMatrices& expert) {
  return !expert.gate.empty() && expert.gate.format == WeightFormat::kNvfp4 &&
         expert.up.format == WeightFormat::kNvfp4;
}

size_t swap_gate_up(const PlantTarget& target) {
  std::vector<LayerWeights>& layers = target.weights.layers;
  const size_t at = choose_layer(target, "this model has no gates",
                                 [&](size_t i) { return !layers[i].mlp.gate_proj.empty(); });
  std::swap(layers[at].mlp.gate_proj, layers[at].mlp.up_proj);
  for (ExpertMatrices& expert : layers[at].experts.experts) std::swap(expert.gate, expert.up);
  return at;
}

size_t drop_layer_scalar(const PlantTarget& target) {
  std::vector<LayerWeights>& layers = target.weights.layers;
  const size_t at = choose_layer(target, "every layer_scalar of this checkpoint is 1",
                                 [&](size_t i) { return layers[i].layer_scalar != 1.0F; });
  layers[at].layer_scalar = 1.0F;
  return at;
}

size_t window_off_by_one(const PlantTarget& target) {
  std::vector<LayerConfig>& layers = target.config.layers;
  const std::string reason = fmt::format(
      "no token stands past a sliding window (the last is at position {})", target.last_position);
  // Layers that read another's cache are left out: they may not see more than its owner keeps.
  const size_t at = choose_layer(target, reason, [&](size_t i) {
    return layers[i].window > 0 && layers[i].window <= target.last_position &&
           layers[i].kv_donor == static_cast<int32_t>(i);
  });
  ++layers[at].window;
  return at;
}

/// Least and largest gate scale over up scale among a layer's NVFP4 experts; nullopt without any.
std::optional<std::pair<float, float>> scale_ratios(const LayerWeights& layer) {
  std::optional<std::pair<float, float>> range;
  for (const ExpertMatrices& expert : layer.experts.experts) {
    if (!both_nvfp4(expert)) continue;
    const float ratio = expert.gate.global_scale / expert.up.global_scale;
    if (!range) range.emplace(ratio, ratio);
    range = {std::min(range->first, ratio), std::max(range->second, ratio)};
  }
  return range;
}

/// Experts only: a factor that all of a feed-forward's output has goes out in the norm after it, so
/// the same fault in a dense MLP, or in experts of one ratio, changes nothing.
size_t gate_scale_for_up(const PlantTarget& target) {
  std::vector<LayerWeights>& layers = target.weights.layers;
  choose_layer(target, "this checkpoint has no experts with NVFP4 gate and up projections",
               [&](size_t i) { return scale_ratios(layers[i]).has_value(); });
  choose_layer(target, "this checkpoint has equal gate and up scales", [&](size_t i) {
    const auto range = scale_ratios(layers[i]);
    return range && *range != std::pair(1.0F, 1.0F);
  });
  constexpr std::string_view kOneRatio =
      "all experts of a layer have one ratio of gate to up scale, which the norm after them "
      "cancels";
  const size_t at = choose_layer(target, kOneRatio, [&](size_t i) {
    const auto range = scale_ratios(layers[i]);
    return range && range->first != range->second;
  });
  for (ExpertMatrices& expert : layers[at].experts.experts) {
    if (both_nvfp4(expert)) expert.up.global_scale = expert.gate.global_scale;
  }
  return at;
}

size_t neighbour_expert(const PlantTarget& target) {
  std::vector<LayerWeights>& layers = target.weights.layers;
  const size_t at = choose_layer(target, "this model has no experts",
                                 [&](size_t i) { return layers[i].experts.count() > 1; });
  std::vector<ExpertMatrices>& experts = layers[at].experts.experts;
  std::rotate(experts.begin(), experts.begin() + 1, experts.end());
  return at;
}

class ErfGeluBackend final : public WrappedBackend {
 public:
  using WrappedBackend::WrappedBackend;

  void activate(TensorView out,
                TensorView gate,
                TensorView up,
                const Activation& activation) override {
    if (activation.function != ActivationFunction::kGeluTanh) {
      WrappedBackend::activate(out, gate, up, activation);
      return;
    }
    const std::span<float> to = out.as<float>();
    const std::span<float> factor = up.as<float>();
    const bool gated = activation.gating == Gating::kGated;
    const std::span<float> from = gated ? gate.as<float>() : factor;
    for (size_t i = 0; i < to.size(); ++i) {
      const auto z = static_cast<double>(from[i]);
      const double activated = 0.5 * z * (1.0 + std::erf(z / std::numbers::sqrt2));
      to[i] = static_cast<float>(gated ? activated * static_cast<double>(factor[i]) : activated);
    }
  }
};

}  // namespace

std::optional<Plant> find_plant(std::string_view name) {
  for (const auto& [known, plant] : kNames) {
    if (known == name) return plant;
  }
  return std::nullopt;
}

std::vector<std::string> plant_names() {
  std::vector<std::string> names;
  names.reserve(kNames.size());
  for (const auto& row : kNames) names.emplace_back(row.first);
  return names;
}

std::string plant_fault(Plant plant, const PlantTarget& target) {
  switch (plant) {
    case Plant::kSwapGateUp:
      return fmt::format("layer {}: gate and up exchanged", swap_gate_up(target));
    case Plant::kDropLayerScalar:
      return fmt::format("layer {}: layer_scalar dropped", drop_layer_scalar(target));
    case Plant::kWindowOffByOne:
      return fmt::format("layer {}: the window is one too wide", window_off_by_one(target));
    case Plant::kGateScaleForUp:
      return fmt::format("layer {}: up has the gate's global scale", gate_scale_for_up(target));
    case Plant::kNeighbourExpert:
      return fmt::format("layer {}: expert e computes as expert e + 1", neighbour_expert(target));
    case Plant::kErfGelu:
      if (target.activation.function != ActivationFunction::kGeluTanh)
        changes_nothing("this model's activation is no GELU");
      return "every layer: GELU in its erf form";
  }
  CHECK(false, "plant {}", static_cast<int>(plant));
}

std::unique_ptr<Backend> make_erf_gelu_backend(Backend& inner) {
  return std::make_unique<ErfGeluBackend>(inner);
}

}  // namespace facet
