#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace facet {

/// The non-linear part of a feed-forward network.
///   kSilu     z / (1 + exp(-z))
///   kGeluTanh 0.5 z (1 + tanh(sqrt(2/pi) (z + 0.044715 z^3)))
///   kRelu2    max(z, 0)^2
enum class ActivationFunction { kSilu, kGeluTanh, kRelu2 };

/// Whether the function is applied to a gate that multiplies an up projection (f(gate) * up), or to
/// the up projection itself (f(up)).
enum class Gating { kGated, kPlain };

struct Activation {
  ActivationFunction function = ActivationFunction::kGeluTanh;
  Gating gating = Gating::kGated;
  bool operator==(const Activation&) const = default;
};

/// The activation map (ACT-1, ACT-6). Gated: silu (SwiGLU), gelu (GeGLU). Plain: silu, gelu, relu2.
/// "gelu", "gelu_tanh" and "gelu_pytorch_tanh" all mean the tanh form, the only one Gemma 4 was
/// trained with. nullopt for anything else, relu2 with a gate included.
std::optional<Activation> find_activation(std::string_view name, Gating gating);

/// As find_activation, with the gating that models use for this name: plain for relu2, gated for
/// the rest.
std::optional<Activation> find_activation(std::string_view name);

/// "silu, gelu, … (gated); …": what an error message lists.
std::string accepted_activations();

/// "GeGLU (tanh)", "SwiGLU", "ReLU²", …
std::string_view to_string(const Activation& activation);

}  // namespace facet
