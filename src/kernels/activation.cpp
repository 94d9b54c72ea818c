#include "kernels/activation.h"

#include <array>

namespace facet {
namespace {

struct Row {
  std::string_view name;
  Activation activation;
};

constexpr auto kGated = Gating::kGated;
constexpr auto kPlain = Gating::kPlain;

/// The first row of a name is the one that models mean by it.
constexpr std::array<Row, 9> kRows = {{
    {"gelu_pytorch_tanh", {ActivationFunction::kGeluTanh, kGated}},
    {"gelu_tanh", {ActivationFunction::kGeluTanh, kGated}},
    {"gelu", {ActivationFunction::kGeluTanh, kGated}},
    {"silu", {ActivationFunction::kSilu, kGated}},
    {"gelu_pytorch_tanh", {ActivationFunction::kGeluTanh, kPlain}},
    {"gelu_tanh", {ActivationFunction::kGeluTanh, kPlain}},
    {"gelu", {ActivationFunction::kGeluTanh, kPlain}},
    {"silu", {ActivationFunction::kSilu, kPlain}},
    {"relu2", {ActivationFunction::kRelu2, kPlain}},
}};

}  // namespace

std::optional<Activation> find_activation(std::string_view name, Gating gating) {
  for (const Row& row : kRows) {
    if (row.name == name && row.activation.gating == gating) return row.activation;
  }
  return std::nullopt;
}

std::optional<Activation> find_activation(std::string_view name) {
  for (const Row& row : kRows) {
    if (row.name == name) return row.activation;
  }
  return std::nullopt;
}

std::string accepted_activations() {
  std::string gated;
  std::string plain;
  for (const Row& row : kRows) {
    std::string& list = row.activation.gating == kGated ? gated : plain;
    if (!list.empty()) list += ", ";
    list += row.name;
  }
  return "with a gate: " + gated + "; without: " + plain;
}

std::string_view to_string(const Activation& activation) {
  const bool gated = activation.gating == Gating::kGated;
  switch (activation.function) {
    case ActivationFunction::kSilu:
      return gated ? "SwiGLU" : "SiLU";
    case ActivationFunction::kGeluTanh:
      return gated ? "GeGLU (tanh)" : "GELU (tanh)";
    case ActivationFunction::kRelu2:
      break;
  }
  return "ReLU²";
}

}  // namespace facet
