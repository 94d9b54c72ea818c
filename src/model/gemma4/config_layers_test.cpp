#include "model/gemma4/config_layers.h"

#include <boost/json/serialize.hpp>
#include <filesystem>
#include <fmt/core.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "checkpoint/json.h"
#include "model/gemma4/config_test.h"
#include "tests/support.h"

namespace facet::gemma4 {
namespace {

using boost::json::array;
using boost::json::object;
using boost::json::value;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using Attention = LayerConfig::Attention;
using test::parse_small;
using test::refusal;
using test::small_config;

std::vector<int32_t> full_layers(const Gemma4Config& config) {
  std::vector<int32_t> result;
  for (size_t i = 0; i < config.layers.size(); ++i) {
    if (config.layers[i].attention == Attention::kFull) result.push_back(static_cast<int32_t>(i));
  }
  return result;
}

std::vector<int32_t> donors(const Gemma4Config& config) {
  std::vector<int32_t> result;
  for (const LayerConfig& layer : config.layers) result.push_back(layer.kv_donor);
  return result;
}

// The layers of 26B-A4B and 31B differ in heads and widths only (architecture 1.2).
void expect_large_layers(const Gemma4Config& config, const LayerConfig& wanted_heads) {
  for (size_t i = 0; i < config.layers.size(); ++i) {
    SCOPED_TRACE(i);
    const bool full = i % 6 == 5;
    const LayerConfig& layer = config.layers[i];
    EXPECT_EQ(layer.attention, full ? Attention::kFull : Attention::kSliding);
    EXPECT_EQ(layer.num_heads, wanted_heads.num_heads);
    EXPECT_EQ(layer.num_kv_heads, full ? wanted_heads.num_kv_heads / 4 : wanted_heads.num_kv_heads);
    EXPECT_EQ(layer.head_dim, full ? 512 : 256);
    EXPECT_EQ(layer.window, full ? 0 : 1024);
    EXPECT_EQ(layer.k_eq_v, full);
    EXPECT_EQ(layer.rope, (full ? RopeParameters{1e6, 64} : RopeParameters{1e4, 128}));
    EXPECT_EQ(layer.intermediate_size, wanted_heads.intermediate_size);
    EXPECT_EQ(layer.sparse, wanted_heads.sparse);
    EXPECT_EQ(layer.kv_donor, static_cast<int32_t>(i));
  }
}

TEST(Gemma4Layers, The26bGivesItsTable) {
  FACET_REQUIRE_SHARED(folder, "real-configs");
  for (const char* name : {"google--gemma-4-26B-A4B", "nvidia--Gemma-4-26B-A4B-NVFP4"}) {
    SCOPED_TRACE(name);
    const Gemma4Config config =
        Gemma4Config::parse(read_json_object(folder + "/" + name + "_config.json"));
    EXPECT_EQ(config.architecture, "Gemma4ForConditionalGeneration");
    EXPECT_EQ(config.num_hidden_layers, 30);
    ASSERT_EQ(config.layers.size(), 30U);
    EXPECT_THAT(full_layers(config), ElementsAre(5, 11, 17, 23, 29));
    EXPECT_EQ(config.hidden_size, 2816);
    EXPECT_EQ(config.intermediate_size, 2112);
    EXPECT_EQ(config.num_experts, 128);
    EXPECT_EQ(config.top_k_experts, 8);
    EXPECT_EQ(config.moe_intermediate_size, 704);
    EXPECT_EQ(config.vocab_size, 262144);
    EXPECT_EQ(config.max_position_embeddings, 262144);
    EXPECT_EQ(config.hidden_size_per_layer_input, 0);
    EXPECT_EQ(config.final_logit_softcapping, 30.0);
    EXPECT_EQ(config.rms_norm_eps, 1e-6);
    EXPECT_EQ(config.hidden_activation, "gelu_pytorch_tanh");
    EXPECT_EQ(config.use_bidirectional_attention, BidirectionalAttention::kVision);
    EXPECT_TRUE(config.tie_word_embeddings);
    EXPECT_TRUE(config.has_vision);
    EXPECT_FALSE(config.has_audio);
    EXPECT_EQ(config.pad_token_id, TokenId{0});
    EXPECT_EQ(config.bos_token_id, TokenId{2});
    EXPECT_THAT(config.placeholder_ids,
                ElementsAre(TokenId{258880}, TokenId{258884}, TokenId{258881}));
    expect_large_layers(config, {.num_heads = 16,
                                 .num_kv_heads = 8,
                                 .rope = {},
                                 .intermediate_size = 2112,
                                 .sparse = true});
    EXPECT_EQ(config.layers[0].q_size(), 4096);
    EXPECT_EQ(config.layers[0].kv_size(), 2048);
    EXPECT_EQ(config.layers[5].q_size(), 8192);
    EXPECT_EQ(config.layers[5].kv_size(), 1024);
  }
}

TEST(Gemma4Layers, The31bGivesItsTable) {
  FACET_REQUIRE_SHARED(file, "real-configs/nvidia--Gemma-4-31B-IT-NVFP4_config.json");
  const Gemma4Config config = Gemma4Config::parse(read_json_object(file));
  ASSERT_EQ(config.layers.size(), 60U);
  EXPECT_THAT(full_layers(config), ElementsAre(5, 11, 17, 23, 29, 35, 41, 47, 53, 59));
  EXPECT_EQ(config.hidden_size, 5376);
  EXPECT_FALSE(config.enable_moe_block);
  EXPECT_EQ(config.num_experts, 0);
  EXPECT_EQ(config.top_k_experts, 0);
  EXPECT_EQ(config.moe_intermediate_size, 0);
  expect_large_layers(config, {.num_heads = 32,
                               .num_kv_heads = 16,
                               .rope = {},
                               .intermediate_size = 21504,
                               .sparse = false});
  EXPECT_EQ(config.layers[5].kv_size(), 2048);
}

// E2B of architecture 1.2, written from the table: 4:1 layers, shared KV, wide MLP.
TEST(Gemma4Layers, TheE2bGivesItsTable) {
  object config = small_config();
  object& text = config["text_config"].as_object();
  array kinds;
  for (int32_t i = 0; i < 35; ++i) {
    kinds.emplace_back(i % 5 == 4 ? "full_attention" : "sliding_attention");
  }
  text["layer_types"] = kinds;
  const value changes = parse_json(R"({"num_hidden_layers": 35, "hidden_size": 1536,
      "num_attention_heads": 8, "num_key_value_heads": 1, "num_global_key_value_heads": null,
      "head_dim": 256, "global_head_dim": 512, "attention_k_eq_v": false, "sliding_window": 512,
      "intermediate_size": 6144, "enable_moe_block": false, "num_kv_shared_layers": 20,
      "use_double_wide_mlp": true, "hidden_size_per_layer_input": 256, "vocab_size": 262144,
      "vocab_size_per_layer_input": 262144, "use_bidirectional_attention": null})");
  for (const auto& change : changes.get_object()) text[change.key()] = change.value();
  const Gemma4Config e2b = Gemma4Config::parse(config);
  EXPECT_THAT(full_layers(e2b), ElementsAre(4, 9, 14, 19, 24, 29, 34));
  EXPECT_EQ(e2b.use_bidirectional_attention, BidirectionalAttention::kNone);
  for (size_t i = 0; i < 35; ++i) {
    const LayerConfig& layer = e2b.layers[i];
    const bool full = i % 5 == 4;
    EXPECT_EQ(layer.num_kv_heads, 1);
    EXPECT_FALSE(layer.k_eq_v);
    EXPECT_EQ(layer.intermediate_size, i < 15 ? 6144 : 12288) << i;
    const int32_t shared_from = full ? 14 : 13;
    EXPECT_EQ(layer.kv_donor, i < 15 ? static_cast<int32_t>(i) : shared_from) << i;
  }
}

TEST(Gemma4Layers, ThePerLayerEmbeddingGolden) {
  FACET_REQUIRE_SHARED(file, "goldens/dense-ple-kvshared-bf16/config.json");
  const Gemma4Config config = Gemma4Config::parse(read_json_object(file));
  EXPECT_EQ(config.hidden_size_per_layer_input, 48);
  EXPECT_EQ(config.vocab_size_per_layer_input, 320);
  EXPECT_EQ(config.num_kv_shared_layers, 3);
  EXPECT_THAT(donors(config), ElementsAre(0, 1, 2, 1, 1, 2));
  for (size_t i = 0; i < config.layers.size(); ++i) {
    const LayerConfig& layer = config.layers[i];
    EXPECT_EQ(layer.num_kv_heads, 2) << i;  // num_global_key_value_heads 1 does not count here
    EXPECT_FALSE(layer.k_eq_v) << i;
    EXPECT_EQ(layer.intermediate_size, i < 3 ? 112 : 224) << i;
  }
  EXPECT_EQ(config.layers[2].rope, (RopeParameters{1e6, 8}));
  EXPECT_EQ(config.layers[0].rope, (RopeParameters{1e4, 16}));
}

TEST(Gemma4Layers, DefaultsAreThoseOfTheLibrary) {
  const object bare =
      parse_json(R"({"architectures": ["Gemma4ForCausalLM"], "model_type": "gemma4_text"})")
          .as_object();
  const Gemma4Config config = Gemma4Config::parse(bare);
  EXPECT_EQ(config.hidden_size, 2304);
  EXPECT_EQ(config.intermediate_size, 9216);
  EXPECT_EQ(config.sliding_window, 512);
  EXPECT_EQ(config.max_position_embeddings, 131072);
  EXPECT_EQ(config.hidden_size_per_layer_input, 256);
  EXPECT_EQ(config.final_logit_softcapping, std::nullopt);
  EXPECT_EQ(config.use_bidirectional_attention, BidirectionalAttention::kNone);
  EXPECT_TRUE(config.tie_word_embeddings);
  EXPECT_THAT(config.eos_token_id, ElementsAre(TokenId{1}));
  EXPECT_TRUE(config.placeholder_ids.empty());
  EXPECT_FALSE(config.has_vision);
  EXPECT_THAT(full_layers(config), ElementsAre(5, 11, 17, 23, 29));
  const LayerConfig sliding = {.attention = Attention::kSliding,
                               .num_heads = 8,
                               .num_kv_heads = 4,
                               .head_dim = 256,
                               .window = 512,
                               .k_eq_v = false,
                               .rope = {1e4, 128},
                               .intermediate_size = 9216,
                               .sparse = false,
                               .kv_donor = 0};
  EXPECT_EQ(config.layers[0], sliding);
  LayerConfig full = sliding;
  full.attention = Attention::kFull;
  full.head_dim = 512;
  full.window = 0;
  full.rope = {1e6, 64};
  full.kv_donor = 5;
  EXPECT_EQ(config.layers[5], full);
}

TEST(Gemma4Layers, GlobalKvHeadsNeedKEqV) {
  const Gemma4Config shared = parse_small("{}");
  EXPECT_EQ(shared.layers[2].num_kv_heads, 1);
  EXPECT_TRUE(shared.layers[2].k_eq_v);
  EXPECT_EQ(shared.layers[0].num_kv_heads, 2);
  EXPECT_FALSE(shared.layers[0].k_eq_v);
  const Gemma4Config own = parse_small(R"({"attention_k_eq_v": false})");
  EXPECT_EQ(own.layers[2].num_kv_heads, 2);
  EXPECT_FALSE(own.layers[2].k_eq_v);
  EXPECT_EQ(parse_small(R"({"num_global_key_value_heads": null})").layers[2].num_kv_heads, 2);
  // Not a divisor, but not used either.
  EXPECT_NO_THROW(parse_small(R"({"attention_k_eq_v": false, "num_global_key_value_heads": 3})"));
  EXPECT_THAT(refusal(R"({"num_global_key_value_heads": 3})"),
              HasSubstr("num_global_key_value_heads: found 3, wanted a divisor"));
  EXPECT_EQ(parse_small(R"({"global_head_dim": null})").layers[2].head_dim, 32);
}

TEST(Gemma4Layers, LayerTypesAndTheirDefault) {
  const Gemma4Config seven = parse_small(R"({"layer_types": null, "num_hidden_layers": 7})");
  EXPECT_THAT(full_layers(seven), ElementsAre(5, 6));  // the last one is full in any case
  const Gemma4Config one =
      parse_small(R"({"layer_types": ["sliding_attention"], "num_hidden_layers": 1})");
  EXPECT_THAT(full_layers(one), ElementsAre(0));
  EXPECT_THAT(refusal(R"({"num_hidden_layers": 7})"),
              AllOf(HasSubstr("layer_types: found 6 entries"), HasSubstr("wanted 7")));
  EXPECT_THAT(refusal(R"({"layer_types": ["chunked_attention"], "num_hidden_layers": 1})"),
              HasSubstr("\"chunked_attention\""));
  EXPECT_THAT(refusal(R"({"layer_types": [], "num_hidden_layers": 1})"), HasSubstr("layer_types"));
}

TEST(Gemma4Layers, RopeByKind) {
  const auto rope = [](const char* full) {
    return fmt::format(R"({{"rope_parameters": {{"full_attention": {},
        "sliding_attention": {{"rope_theta": 10000}}}}}})",
                       full);
  };
  const auto parsed = [&rope](const char* full) {
    return parse_small(rope(full).c_str()).layers[2].rope;
  };
  EXPECT_EQ(parsed(R"({"rope_theta": 5e5, "rope_type": "default"})"), (RopeParameters{5e5, 32}));
  EXPECT_EQ(parsed(R"({"rope_theta": 5e5, "rope_type": "proportional"})"),
            (RopeParameters{5e5, 32}));
  EXPECT_EQ(
      parsed(R"({"rope_theta": 5e5, "rope_type": "proportional", "partial_rotary_factor": 0.3})"),
      (RopeParameters{5e5, 9}));  // floor(0.3 * 64 / 2)
  EXPECT_EQ(parse_small(R"({"rope_parameters": null})").layers[2].rope, (RopeParameters{1e6, 8}));
  EXPECT_EQ(parse_small(R"({"rope_parameters": null})").layers[0].rope, (RopeParameters{1e4, 16}));
  const auto refused = [&rope](const char* full) { return refusal(rope(full).c_str()); };
  EXPECT_THAT(refused(R"({"rope_theta": 1e6, "rope_type": "yarn"})"), HasSubstr("found \"yarn\""));
  EXPECT_THAT(refused(R"({"rope_theta": 1e6, "rope_type": "proportional", "factor": 8.0})"),
              HasSubstr("factor: found 8"));
  EXPECT_THAT(refused(R"({"rope_theta": 1e6, "partial_rotary_factor": 0.25})"),
              HasSubstr("partial_rotary_factor: found 0.25, wanted 1"));
  for (const char* factor : {"0", "-1", "1.5"}) {
    EXPECT_THAT(refused(fmt::format(R"({{"rope_theta": 1e6, "rope_type": "proportional",
        "partial_rotary_factor": {}}})",
                                    factor)
                            .c_str()),
                HasSubstr("partial_rotary_factor"));
  }
  for (const char* theta : {"0", "1", "-1e6", "null", "\"1e6\""}) {
    EXPECT_THAT(refused(fmt::format(R"({{"rope_theta": {}}})", theta).c_str()),
                AllOf(HasSubstr("full_attention"), HasSubstr("rope_theta")));
  }
  EXPECT_THAT(refused("null"), HasSubstr("full_attention: missing"));
  EXPECT_THAT(refused("[]"), HasSubstr("full_attention"));
  EXPECT_THAT(refusal(R"({"rope_parameters": {"rope_theta": 1e6, "rope_type": "default"}})"),
              HasSubstr("missing, though layers of this kind exist"));
}

TEST(Gemma4Layers, SharedLayersNeedADonorOfTheirKind) {
  EXPECT_THAT(donors(parse_small(R"({"num_kv_shared_layers": 1})")), ElementsAre(0, 1, 2, 3, 4, 2));
  EXPECT_THAT(donors(parse_small(R"({"num_kv_shared_layers": 3})")), ElementsAre(0, 1, 2, 1, 1, 2));
  // Layers 0 and 1 are sliding: layer 2, full, has nobody to read from.
  EXPECT_THAT(refusal(R"({"num_kv_shared_layers": 4})"),
              AllOf(HasSubstr("num_kv_shared_layers: found 4"), HasSubstr("layer 2"),
                    HasSubstr("full_attention")));
  const Gemma4Config wide =
      parse_small(R"({"num_kv_shared_layers": 3, "use_double_wide_mlp": true})");
  EXPECT_EQ(wide.layers[2].intermediate_size, 160);
  EXPECT_EQ(wide.layers[3].intermediate_size, 320);
  const Gemma4Config none_shared = parse_small(R"({"use_double_wide_mlp": true})");
  EXPECT_EQ(none_shared.layers[5].intermediate_size, 160);
}

}  // namespace
}  // namespace facet::gemma4
