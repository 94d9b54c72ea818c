#pragma once

#include <algorithm>
#include <boost/json/object.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/ids.h"

namespace facet::gemma4 {

/// Rotary embedding of one layer: components i and i + head_dim/2 turn together by the angle
/// position * rope_theta^(-2i / head_dim) for i < rotated_pairs; the other pairs stay as they are.
struct RopeParameters {
  double rope_theta = 0;
  int32_t rotated_pairs = 0;
  bool operator==(const RopeParameters&) const = default;
};

/// What one decoder layer is.
struct LayerConfig {
  enum class Attention : uint8_t { kSliding, kFull };

  Attention attention = Attention::kSliding;
  int32_t num_heads = 0;     ///< query heads
  int32_t num_kv_heads = 0;  ///< divides num_heads
  int32_t head_dim = 0;      ///< even
  int32_t window = 0;        ///< keys a query sees, itself included; 0 = all before it
  bool k_eq_v = false;       ///< no v_proj: V starts from the raw K projection
  RopeParameters rope;
  int32_t intermediate_size = 0;  ///< width of the dense MLP
  bool sparse = false;            ///< has experts beside the dense MLP
  int32_t kv_donor = 0;           ///< the layer whose K and V it reads; itself if it writes its own

  int32_t q_size() const { return num_heads * head_dim; }      ///< rows of q_proj
  int32_t kv_size() const { return num_kv_heads * head_dim; }  ///< rows of k_proj
  bool operator==(const LayerConfig&) const = default;
};

/// Which queries may look ahead.
enum class BidirectionalAttention : uint8_t {
  kNone,
  kVision,  ///< the soft tokens of one image see each other
};

/// The text model of config.json, checked; names are the file's. Values of one layer are in
/// `layers`: the fields below hold what the file says, before layers differ.
struct Gemma4Config {
  /// `config` is the whole config.json. Accepts Gemma4ForConditionalGeneration,
  /// Gemma4UnifiedForConditionalGeneration (their text_config) and Gemma4ForCausalLM (text_config
  /// or the root). Absent fields get the defaults of HF Gemma4TextConfig. Throws
  /// Error{kBadCheckpoint} naming the field, what was found and what was wanted.
  static Gemma4Config parse(const boost::json::object& config);

  std::string architecture;
  bool has_vision = false;  ///< vision_config is there
  bool has_audio = false;   ///< audio_config is there

  int32_t vocab_size = 262144;
  int32_t hidden_size = 2304;
  int32_t intermediate_size = 9216;
  int32_t num_hidden_layers = 30;
  int32_t num_attention_heads = 8;
  int32_t num_key_value_heads = 4;
  int32_t num_global_key_value_heads = 0;  ///< 0 = not given; counts only with attention_k_eq_v
  int32_t head_dim = 256;
  int32_t global_head_dim = 512;
  bool attention_k_eq_v = false;
  int32_t sliding_window = 512;
  int32_t max_position_embeddings = 131072;
  double rms_norm_eps = 1e-6;
  std::string hidden_activation = "gelu_pytorch_tanh";
  std::optional<double> final_logit_softcapping;  ///< logits = cap * tanh(logits / cap)
  BidirectionalAttention use_bidirectional_attention = BidirectionalAttention::kNone;
  bool tie_word_embeddings = true;

  int32_t num_kv_shared_layers = 0;
  bool use_double_wide_mlp = false;
  int32_t hidden_size_per_layer_input = 256;  ///< width of per-layer embeddings; 0 = none
  int32_t vocab_size_per_layer_input = 262144;

  bool enable_moe_block = false;
  int32_t num_experts = 0;  ///< this and the next two: 0 without enable_moe_block
  int32_t top_k_experts = 0;
  int32_t moe_intermediate_size = 0;

  TokenId pad_token_id{0};
  TokenId bos_token_id{2};
  std::vector<TokenId> eos_token_id;     ///< at least one
  std::vector<TokenId> placeholder_ids;  ///< image, video, audio: looked up as pad_token_id
  std::optional<TokenId> image_token_id;
  std::optional<TokenId> video_token_id;
  std::optional<TokenId> audio_token_id;

  bool is_placeholder(TokenId id) const {
    return std::find(placeholder_ids.begin(), placeholder_ids.end(), id) != placeholder_ids.end();
  }

  std::vector<LayerConfig> layers;  ///< num_hidden_layers of them
};

}  // namespace facet::gemma4
