#include "model/gemma4/names.h"

#include <array>
#include <utility>

namespace facet::gemma4 {
namespace {

using Pair = std::pair<std::string_view, std::string_view>;

/// Tensors below these are recognised and skipped by a text run. Checked before the text prefixes,
/// of which "model." would match them all.
constexpr std::array<Pair, 8> kOtherParts = {{
    {"model.vision_tower.", "vision"},
    {"model.embed_vision.", "vision"},
    {"model.vision_embedder.", "vision"},
    {"vision_tower.", "vision"},
    {"embed_vision.", "vision"},
    {"model.audio_tower.", "audio"},
    {"model.embed_audio.", "audio"},
    {"audio_tower.", "audio"},
}};

/// Longest first.
constexpr std::array<std::string_view, 4> kTextPrefixes = {
    "model.language_model.", "language_model.model.", "language_model.", "model."};

/// Community exports put routing and experts one level deeper.
constexpr std::array<Pair, 5> kAliases = {{
    {".moe.experts.", ".experts."},
    {".moe.router.", ".router."},
    {".moe.per_expert_scale", ".router.per_expert_scale"},
    {".moe.gate_up_proj", ".experts.gate_up_proj"},
    {".moe.down_proj", ".experts.down_proj"},
}};

}  // namespace

std::optional<TensorName> parse_tensor_name(std::string_view name) {
  for (const auto& [prefix, part] : kOtherParts) {
    if (name.starts_with(prefix)) return TensorName{{}, part};
  }
  if (name.starts_with("lm_head.")) return TensorName{std::string(name), {}};
  for (const std::string_view prefix : kTextPrefixes) {
    if (!name.starts_with(prefix)) continue;
    std::string text(name.substr(prefix.size()));
    for (const auto& [alias, canonical] : kAliases) {
      const size_t at = text.find(alias);
      if (at == std::string::npos) continue;
      text.replace(at, alias.size(), canonical);
      break;
    }
    return TensorName{std::move(text), {}};
  }
  return std::nullopt;
}

}  // namespace facet::gemma4
