#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace facet::gemma4 {

/// A checkpoint tensor name taken apart (MAP-3).
struct TensorName {
  /// Relative to the text model: "layers.3.self_attn.q_proj.weight", "embed_tokens.weight",
  /// "lm_head.weight". Empty if the tensor belongs to a part that text does not use.
  std::string text;
  /// "vision" or "audio" for tensors of those towers and projectors, else empty.
  std::string_view other_part;
};

/// Accepts the prefixes of every published class ("model.language_model.", "language_model.model.",
/// "model.") and the extra ".moe." level of community exports. nullopt for a name outside all of
/// them.
std::optional<TensorName> parse_tensor_name(std::string_view name);

}  // namespace facet::gemma4
