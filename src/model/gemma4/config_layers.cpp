#include "model/gemma4/config_layers.h"

#include <cmath>
#include <fmt/core.h>
#include <optional>
#include <string>
#include <string_view>

#include "base/text.h"

namespace facet::gemma4 {
namespace {

using Attention = LayerConfig::Attention;

constexpr std::string_view kSliding = "sliding_attention";
constexpr std::string_view kFull = "full_attention";
constexpr int32_t kDefaultPattern = 6;  // five sliding layers, then a full one

std::vector<Attention> read_kinds(const JsonReader& text, int32_t count) {
  std::vector<Attention> kinds;
  if (const auto names = text.strings("layer_types")) {
    if (static_cast<int64_t>(names->size()) != count) {
      text.fail("layer_types", fmt::format("found {} entries, wanted {} as num_hidden_layers says",
                                           names->size(), count));
    }
    for (const std::string& name : *names) {
      if (name != kSliding && name != kFull) {
        text.fail("layer_types", fmt::format("entry {} is \"{}\", wanted {} or {}", kinds.size(),
                                             printable(name), kSliding, kFull));
      }
      kinds.push_back(name == kFull ? Attention::kFull : Attention::kSliding);
    }
  } else {
    for (int32_t i = 1; i <= count; ++i) {
      kinds.push_back(i % kDefaultPattern == 0 ? Attention::kFull : Attention::kSliding);
    }
  }
  kinds.back() = Attention::kFull;  // as HF Gemma4TextConfig does, with and without layer_types
  return kinds;
}

void refuse_unless_one(const JsonReader& reader, std::string_view name) {
  const double value = reader.number(name).value_or(1.0);
  if (value != 1.0) reader.fail(name, fmt::format("found {}, wanted 1", value));
}

/// The parameters under `kind`; those of HF Gemma4TextConfig if rope_parameters is absent.
/// "default" rotates every pair; "proportional" the first partial_rotary_factor of them, with the
/// same angles (the exponent's denominator stays head_dim).
RopeParameters read_rope(const JsonReader& text, std::string_view kind, int32_t head_dim) {
  const auto partial_pairs = [head_dim](double factor) {
    return static_cast<int32_t>(std::floor(factor * head_dim / 2));
  };
  const std::optional<JsonReader> all = text.object("rope_parameters");
  if (!all) {
    return kind == kFull ? RopeParameters{1e6, partial_pairs(0.25)}
                         : RopeParameters{1e4, head_dim / 2};
  }
  const std::optional<JsonReader> rope = all->object(kind);
  if (!rope) all->fail(kind, "missing, though layers of this kind exist");
  const std::optional<double> theta = rope->number("rope_theta");
  if (!theta || !std::isfinite(*theta) || *theta <= 1.0) {
    rope->fail("rope_theta", fmt::format("found {}, wanted a number above 1",
                                         theta ? fmt::format("{}", *theta) : "none"));
  }
  refuse_unless_one(*rope, "factor");
  const std::string type = rope->string("rope_type").value_or("default");
  if (type == "default") {
    refuse_unless_one(*rope, "partial_rotary_factor");
    return {*theta, head_dim / 2};
  }
  if (type != "proportional") {
    rope->fail("rope_type",
               fmt::format("found \"{}\", wanted default or proportional", printable(type)));
  }
  const double factor = rope->number("partial_rotary_factor").value_or(1.0);
  if (!(factor > 0.0 && factor <= 1.0)) {
    rope->fail("partial_rotary_factor",
               fmt::format("found {}, wanted above 0 and at most 1", factor));
  }
  return {*theta, partial_pairs(factor)};
}

/// What all layers of one kind have in common.
LayerConfig read_kind(const JsonReader& text, const Gemma4Config& config, Attention kind) {
  const bool full = kind == Attention::kFull;
  const bool global_heads =
      full && config.attention_k_eq_v && config.num_global_key_value_heads != 0;
  LayerConfig layer;
  layer.attention = kind;
  layer.num_heads = config.num_attention_heads;
  layer.num_kv_heads =
      global_heads ? config.num_global_key_value_heads : config.num_key_value_heads;
  layer.head_dim = full ? config.global_head_dim : config.head_dim;
  layer.window = full ? 0 : config.sliding_window;
  layer.k_eq_v = full && config.attention_k_eq_v;
  layer.intermediate_size = config.intermediate_size;
  layer.sparse = config.enable_moe_block;
  if (layer.num_heads % layer.num_kv_heads != 0) {
    text.fail(global_heads ? "num_global_key_value_heads" : "num_key_value_heads",
              fmt::format("found {}, wanted a divisor of num_attention_heads, {}",
                          layer.num_kv_heads, layer.num_heads));
  }
  if (layer.head_dim % 2 != 0) {
    text.fail(full ? "global_head_dim" : "head_dim",
              fmt::format("found {}, wanted an even number", layer.head_dim));
  }
  layer.rope = read_rope(text, full ? kFull : kSliding, layer.head_dim);
  return layer;
}

/// KV sharing (architecture 2.8): the last num_kv_shared_layers read the K and V of the last layer
/// of their kind before them that writes its own.
int32_t find_donor(const JsonReader& text,
                   const std::vector<Attention>& kinds,
                   size_t layer,
                   size_t first_shared) {
  if (layer < first_shared) return static_cast<int32_t>(layer);
  for (size_t donor = first_shared; donor-- > 0;) {
    if (kinds[donor] == kinds[layer]) return static_cast<int32_t>(donor);
  }
  text.fail(
      "num_kv_shared_layers",
      fmt::format("found {}: layer {} shares the KV of the last {} layer before layer {}, but "
                  "there is none",
                  kinds.size() - first_shared, layer,
                  kinds[layer] == Attention::kFull ? kFull : kSliding, first_shared));
}

}  // namespace

std::vector<LayerConfig> read_layers(const JsonReader& text, const Gemma4Config& config) {
  const std::vector<Attention> kinds = read_kinds(text, config.num_hidden_layers);
  const size_t first_shared = kinds.size() - static_cast<size_t>(config.num_kv_shared_layers);
  std::optional<LayerConfig> sliding;
  std::optional<LayerConfig> full;
  std::vector<LayerConfig> layers;
  layers.reserve(kinds.size());
  for (size_t i = 0; i < kinds.size(); ++i) {
    std::optional<LayerConfig>& kind = kinds[i] == Attention::kFull ? full : sliding;
    if (!kind) kind = read_kind(text, config, kinds[i]);
    LayerConfig layer = *kind;
    layer.kv_donor = find_donor(text, kinds, i, first_shared);
    if (i >= first_shared && config.use_double_wide_mlp) layer.intermediate_size *= 2;
    layers.push_back(layer);
  }
  return layers;
}

}  // namespace facet::gemma4
