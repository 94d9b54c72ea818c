#include "model/gemma4/config.h"

#include <algorithm>
#include <array>
#include <boost/json/serialize.hpp>
#include <cmath>
#include <fmt/core.h>
#include <initializer_list>
#include <limits>
#include <string_view>

#include "base/text.h"
#include "checkpoint/json.h"
#include "model/gemma4/config_layers.h"

namespace facet::gemma4 {
namespace {

constexpr std::string_view kConditional = "Gemma4ForConditionalGeneration";
constexpr std::string_view kCausal = "Gemma4ForCausalLM";
constexpr std::string_view kUnified = "Gemma4UnifiedForConditionalGeneration";

// No published model comes near these. They keep every product of two of them inside 64 bits and
// every product of heads and head size inside 32.
constexpr int64_t kMaxWidth = 1 << 20;
constexpr int64_t kMaxLayers = 4096;
constexpr int64_t kMaxVocab = 1 << 24;
constexpr int64_t kMaxHeads = 4096;
constexpr int64_t kMaxHeadDim = 4096;
constexpr int64_t kMaxExperts = 1 << 16;
constexpr int64_t kMaxPositions = 1 << 30;

int32_t checked(
    const JsonReader& reader, std::string_view name, int64_t value, int64_t low, int64_t high) {
  if (value < low || value > high) {
    reader.fail(name, fmt::format("found {}, wanted {} to {}", value, low, high));
  }
  return static_cast<int32_t>(value);
}

/// `field` keeps its default if the member is absent or null.
void read_size(const JsonReader& reader, std::string_view name, int64_t high, int32_t& field) {
  if (const auto value = reader.integer(name)) field = checked(reader, name, *value, 1, high);
}

void read_flag(const JsonReader& reader, std::string_view name, bool& field) {
  field = reader.boolean(name).value_or(field);
}

/// A number that is positive and finite as float32 too, which kernels take; or nullopt.
std::optional<double> positive(const JsonReader& reader, std::string_view name) {
  const std::optional<double> value = reader.number(name);
  constexpr float kMost = std::numeric_limits<float>::max();
  if (value && !(*value > 0 && *value <= kMost && static_cast<float>(*value) > 0)) {
    reader.fail(name, fmt::format("found {}, wanted a positive number of float32's range", *value));
  }
  return value;
}

/// The first of `names` that is there and not null.
std::optional<std::string_view> first_given(const JsonReader& reader,
                                            std::initializer_list<std::string_view> names) {
  for (const std::string_view name : names) {
    if (reader.find(name) != nullptr) return name;
  }
  return std::nullopt;
}

std::string read_architecture(const JsonReader& root) {
  const auto names = root.strings("architectures").value_or(std::vector<std::string>());
  for (const std::string& name : names) {
    if (name == kConditional || name == kCausal || name == kUnified) return name;
  }
  root.fail("architectures", fmt::format("found {}, wanted {}, {} or {}",
                                         names.empty() ? "none" : printable(names.front()),
                                         kConditional, kCausal, kUnified));
}

void check_model_type(const JsonReader& reader) {
  constexpr std::array<std::string_view, 4> kTypes = {"gemma4", "gemma4_text", "gemma4_unified",
                                                      "gemma4_unified_text"};
  const std::optional<std::string> type = reader.string("model_type");
  if (type && std::find(kTypes.begin(), kTypes.end(), *type) == kTypes.end()) {
    reader.fail("model_type",
                fmt::format("found \"{}\", wanted gemma4, gemma4_unified or the _text form of "
                            "either",
                            printable(*type)));
  }
}

void read_widths(const JsonReader& text, Gemma4Config& config) {
  read_size(text, "vocab_size", kMaxVocab, config.vocab_size);
  read_size(text, "hidden_size", kMaxWidth, config.hidden_size);
  read_size(text, "intermediate_size", kMaxWidth, config.intermediate_size);
  read_size(text, "num_hidden_layers", kMaxLayers, config.num_hidden_layers);
  read_size(text, "max_position_embeddings", kMaxPositions, config.max_position_embeddings);
  if (const auto eps = positive(text, "rms_norm_eps")) config.rms_norm_eps = *eps;
  config.hidden_activation = text.string("hidden_activation").value_or(config.hidden_activation);
  config.final_logit_softcapping = positive(text, "final_logit_softcapping");
}

void read_attention(const JsonReader& text, Gemma4Config& config) {
  read_size(text, "num_attention_heads", kMaxHeads, config.num_attention_heads);
  read_size(text, "num_key_value_heads", kMaxHeads, config.num_key_value_heads);
  read_size(text, "num_global_key_value_heads", kMaxHeads, config.num_global_key_value_heads);
  read_size(text, "head_dim", kMaxHeadDim, config.head_dim);
  if (text.get().contains("global_head_dim") && text.find("global_head_dim") == nullptr) {
    config.global_head_dim = config.head_dim;  // null, unlike absent, means "as the others"
  }
  read_size(text, "global_head_dim", kMaxHeadDim, config.global_head_dim);
  if (text.find("per_layer_config") != nullptr && text.find("global_head_dim") == nullptr) {
    text.fail("per_layer_config", "not supported without the field global_head_dim");
  }
  read_flag(text, "attention_k_eq_v", config.attention_k_eq_v);
  read_size(text, "sliding_window", kMaxPositions, config.sliding_window);
  if (text.boolean("attention_bias").value_or(false)) {
    text.fail("attention_bias", "found true, wanted false");
  }
  if (!text.get().contains("use_bidirectional_attention")) return;
  config.use_bidirectional_attention = BidirectionalAttention::kNone;
  const boost::json::value* both = text.find("use_bidirectional_attention");
  if (both == nullptr) return;
  if (!both->is_string() || both->get_string() != "vision") {
    text.fail("use_bidirectional_attention",
              fmt::format("found {}, wanted null or \"vision\"",
                          printable(boost::json::serialize(*both), 80)));
  }
  config.use_bidirectional_attention = BidirectionalAttention::kVision;
}

void read_experts(const JsonReader& text, Gemma4Config& config) {
  read_flag(text, "enable_moe_block", config.enable_moe_block);
  if (text.boolean("use_second_mlp_block").value_or(false)) config.enable_moe_block = true;
  if (!config.enable_moe_block) return;
  const auto required = [&text](std::initializer_list<std::string_view> names, int64_t high) {
    const std::optional<std::string_view> name = first_given(text, names);
    if (!name) text.fail(*names.begin(), "missing, wanted with enable_moe_block");
    return checked(text, *name, *text.integer(*name), 1, high);
  };
  config.num_experts = required({"num_experts"}, kMaxExperts);
  config.top_k_experts = required(
      {"num_experts_per_tok", "num_experts_per_token", "top_k_experts", "moe_top_k", "moe_topk"},
      config.num_experts);
  config.moe_intermediate_size =
      required({"moe_intermediate_size", "expert_intermediate_size"}, kMaxWidth);
}

void read_per_layer_embedding(const JsonReader& text, Gemma4Config& config) {
  constexpr std::string_view kWidth = "hidden_size_per_layer_input";
  if (text.get().contains(kWidth)) {
    config.hidden_size_per_layer_input =
        checked(text, kWidth, text.integer(kWidth).value_or(0), 0, kMaxWidth);
  }
  if (config.hidden_size_per_layer_input == 0) return;
  read_size(text, "vocab_size_per_layer_input", kMaxVocab, config.vocab_size_per_layer_input);
  if (config.vocab_size_per_layer_input < config.vocab_size) {
    text.fail("vocab_size_per_layer_input",
              fmt::format("found {}, wanted at least vocab_size, {}",
                          config.vocab_size_per_layer_input, config.vocab_size));
  }
}

std::optional<TokenId> read_token(const JsonReader& reader, std::string_view name, int64_t high) {
  const std::optional<int64_t> value = reader.integer(name);
  if (!value) return std::nullopt;
  return TokenId{checked(reader, name, *value, 0, high)};
}

void read_tokens(const JsonReader& root, const JsonReader& text, Gemma4Config& config) {
  // Files keep the ids of the large vocabulary when a test model has a small one: an id that cannot
  // occur does no harm. Only the pad id is looked up.
  config.pad_token_id =
      read_token(text, "pad_token_id", config.vocab_size - 1).value_or(config.pad_token_id);
  config.bos_token_id = read_token(text, "bos_token_id", kMaxVocab).value_or(config.bos_token_id);
  const JsonReader& ends = root.find("eos_token_id") != nullptr ? root : text;
  const auto eos = ends.integers("eos_token_id").value_or(std::vector<int64_t>{1});
  if (eos.empty()) ends.fail("eos_token_id", "found an empty list, wanted at least one id");
  for (const int64_t id : eos) {
    config.eos_token_id.push_back(TokenId{checked(ends, "eos_token_id", id, 0, kMaxVocab)});
  }
  config.image_token_id = read_token(root, "image_token_id", kMaxVocab);
  config.video_token_id = read_token(root, "video_token_id", kMaxVocab);
  config.audio_token_id = read_token(root, "audio_token_id", kMaxVocab);
  for (const auto& id : {config.image_token_id, config.video_token_id, config.audio_token_id}) {
    if (id) config.placeholder_ids.push_back(*id);
  }
}

void read_tied(const JsonReader& root, const JsonReader& text, Gemma4Config& config) {
  const std::optional<bool> outer = root.boolean("tie_word_embeddings");
  const std::optional<bool> inner = text.boolean("tie_word_embeddings");
  if (outer && inner && outer != inner) {
    text.fail("tie_word_embeddings",
              fmt::format("found {}, wanted {} as at the top level", *inner, *outer));
  }
  if (outer || inner) config.tie_word_embeddings = outer ? *outer : *inner;
}

/// HF Gemma4UnifiedTextConfig differs from Gemma4TextConfig in these defaults.
void set_unified_defaults(Gemma4Config& config) {
  config.sliding_window = 1024;
  config.max_position_embeddings = 262144;
  config.use_bidirectional_attention = BidirectionalAttention::kVision;
  config.hidden_size_per_layer_input = 0;
}

}  // namespace

Gemma4Config Gemma4Config::parse(const boost::json::object& json) {
  const JsonReader root(json, "config.json");
  Gemma4Config config;
  config.architecture = read_architecture(root);
  check_model_type(root);
  const std::optional<JsonReader> nested = root.object("text_config");
  if (!nested && config.architecture != kCausal) root.fail("text_config", "missing");
  const JsonReader& text = nested ? *nested : root;
  check_model_type(text);
  if (config.architecture == kUnified) set_unified_defaults(config);
  config.has_vision = root.object("vision_config").has_value();
  config.has_audio = root.object("audio_config").has_value();

  read_widths(text, config);
  read_attention(text, config);
  read_experts(text, config);
  read_per_layer_embedding(text, config);
  read_tokens(root, text, config);
  read_tied(root, text, config);
  if (const auto shared = text.integer("num_kv_shared_layers")) {
    config.num_kv_shared_layers =
        checked(text, "num_kv_shared_layers", *shared, 0, config.num_hidden_layers - 1);
  }
  read_flag(text, "use_double_wide_mlp", config.use_double_wide_mlp);
  config.layers = read_layers(text, config);
  return config;
}

}  // namespace facet::gemma4
