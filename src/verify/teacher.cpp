#include "verify/teacher.h"

#include <algorithm>

#include "base/check.h"

namespace facet {
namespace {

std::vector<float> copy_of(TensorView view) {
  const auto values = view.as<float>();
  return {values.begin(), values.end()};
}

void overwrite(TensorView view, const std::vector<float>& values) {
  const auto to = view.as<float>();
  CHECK(to.size() == values.size(), "{} values into {}", values.size(), to_string(view.shape()));
  std::copy(values.begin(), values.end(), to.begin());
}

}  // namespace

void Recorder::hidden(int32_t layer, TensorView x) {
  record_.hidden[static_cast<size_t>(layer)] = copy_of(x);
  if (layer < model_.config().num_hidden_layers) each_layer_();
}

void Recorder::after_attention(int32_t layer, TensorView x) {
  record_.after_attention[static_cast<size_t>(layer)] = copy_of(x);
  if (model_.config().layers[static_cast<size_t>(layer)].sparse) {
    record_.routing[static_cast<size_t>(layer)].probabilities = router_probabilities(layer, x);
  }
}

/// The router asked for all experts with their plain shares, which are then the probabilities.
std::vector<float> Recorder::router_probabilities(int32_t layer, TensorView x) {
  const gemma4::RouterWeights& w = model_.weights().layers[static_cast<size_t>(layer)].router;
  const Shape shape = {x.rows(), w.proj.rows};
  const auto count = static_cast<size_t>(shape.elements());
  const auto experts = static_cast<size_t>(w.proj.rows);
  std::vector<int32_t> ranked(count);
  std::vector<float> shares(count);
  const std::vector<float> ones(experts, 1.0F);
  backend_.route({TensorView(ranked.data(), DType::kI32, shape),
                  TensorView(shares.data(), DType::kF32, shape)},
                 x, {w.proj, w.scale, ones}, static_cast<float>(model_.config().rms_norm_eps));
  std::vector<float> probabilities(count);
  for (size_t i = 0; i < count; ++i) {
    probabilities[i / experts * experts + static_cast<size_t>(ranked[i])] = shares[i];
  }
  return probabilities;
}

void Recorder::after_layers(TensorView x) { record_.after_layers = copy_of(x); }

void Recorder::routing(int32_t layer, const Routing& routing) {
  StepRecord::Routed& routed = record_.routing[static_cast<size_t>(layer)];
  const auto experts = routing.experts.as<int32_t>();
  routed.experts.assign(experts.begin(), experts.end());
  routed.weights = copy_of(routing.weights);
}

void Recorder::per_layer_inputs(TensorView ple) { record_.per_layer_inputs = copy_of(ple); }

Difference Teacher::against(TensorView found, const std::vector<float>& wanted) const {
  return compare(
      Rows{.found = found.as<float>(), .wanted = wanted, .before = {}, .positions = positions_});
}

void Teacher::hidden(int32_t layer, TensorView x) {
  const std::vector<float>& wanted = record_.hidden[static_cast<size_t>(layer)];
  if (layer == std::ssize(report_.layers)) {
    report_.final_norm.merge(against(x, wanted));
  } else if (layer == 0) {
    report_.embedding.merge(against(x, wanted));
  } else {
    end_of_layer(layer - 1, x);
  }
  overwrite(x, wanted);
}

void Teacher::after_layers(TensorView x) {
  end_of_layer(static_cast<int32_t>(report_.layers.size()) - 1, x);
  overwrite(x, record_.after_layers);
}

void Teacher::after_attention(int32_t layer, TensorView x) {
  const auto at = static_cast<size_t>(layer);
  report_.layers[at].attention.merge(compare(Rows{.found = x.as<float>(),
                                                  .wanted = record_.after_attention[at],
                                                  .before = record_.hidden[at],
                                                  .positions = positions_}));
  overwrite(x, record_.after_attention[at]);
}

void Teacher::end_of_layer(int32_t layer, TensorView x) {
  const auto at = static_cast<size_t>(layer);
  const bool last = at + 1 == report_.layers.size();
  report_.layers[at].feed_forward.merge(
      compare(Rows{.found = x.as<float>(),
                   .wanted = last ? record_.after_layers : record_.hidden[at + 1],
                   .before = record_.after_attention[at],
                   .before_factor = static_cast<double>(weights_.layers[at].layer_scalar),
                   .positions = positions_}));
}

void Teacher::routing(int32_t layer, const Routing& routing) {
  const auto at = static_cast<size_t>(layer);
  const StepRecord::Routed& wanted = record_.routing[at];
  const auto experts = routing.experts.as<int32_t>();
  const RoutingDifference found = compare(Routings{.found_experts = experts,
                                                   .found_weights = routing.weights.as<float>(),
                                                   .wanted_experts = wanted.experts,
                                                   .wanted_weights = wanted.weights,
                                                   .probabilities = wanted.probabilities,
                                                   .positions = positions_},
                                          tie_);
  std::optional<RoutingDifference>& so_far = report_.layers[at].routing;
  if (!so_far) so_far.emplace();
  so_far->merge(found);
  std::copy(wanted.experts.begin(), wanted.experts.end(), experts.begin());
  overwrite(routing.weights, wanted.weights);
}

void Teacher::per_layer_inputs(TensorView ple) {
  if (!report_.per_layer_inputs) report_.per_layer_inputs.emplace();
  report_.per_layer_inputs->merge(against(ple, record_.per_layer_inputs));
  overwrite(ple, record_.per_layer_inputs);
}

}  // namespace facet
