#include "model/gemma4/config.h"

#include <algorithm>
#include <boost/json/serialize.hpp>
#include <filesystem>
#include <fmt/core.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "checkpoint/json.h"
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

/// A small model that states every field this engine reads. `text` and `root` replace members.
object small(const char* text = "{}", const char* root = "{}") {
  object config = parse_json(R"({"architectures": ["Gemma4ForConditionalGeneration"],
    "model_type": "gemma4", "audio_config": null, "vision_config": null,
    "tie_word_embeddings": true, "eos_token_id": [1, 106], "image_token_id": 302,
    "video_token_id": 303, "audio_token_id": 306,
    "text_config": {"model_type": "gemma4_text", "vocab_size": 320, "hidden_size": 96,
      "intermediate_size": 160, "num_hidden_layers": 6,
      "layer_types": ["sliding_attention", "sliding_attention", "full_attention",
                      "sliding_attention", "sliding_attention", "full_attention"],
      "num_attention_heads": 4, "num_key_value_heads": 2, "num_global_key_value_heads": 1,
      "head_dim": 32, "global_head_dim": 64, "attention_k_eq_v": true, "sliding_window": 16,
      "max_position_embeddings": 4096, "rms_norm_eps": 1e-6, "attention_bias": false,
      "hidden_activation": "gelu_pytorch_tanh", "final_logit_softcapping": 30.0,
      "use_bidirectional_attention": "vision", "tie_word_embeddings": true,
      "num_kv_shared_layers": 0, "use_double_wide_mlp": false,
      "hidden_size_per_layer_input": 0, "vocab_size_per_layer_input": 320,
      "enable_moe_block": true, "num_experts": 8, "top_k_experts": 2,
      "moe_intermediate_size": 48, "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 1,
      "rope_parameters": {
        "full_attention": {"partial_rotary_factor": 0.25, "rope_theta": 1e6,
                           "rope_type": "proportional"},
        "sliding_attention": {"rope_theta": 1e4, "rope_type": "default"}}}})")
                      .as_object();
  const value text_changes = parse_json(text);
  for (const auto& change : text_changes.get_object()) {
    config["text_config"].as_object()[change.key()] = change.value();
  }
  const value root_changes = parse_json(root);
  for (const auto& change : root_changes.get_object()) config[change.key()] = change.value();
  return config;
}

Gemma4Config parse(const char* text, const char* root = "{}") {
  return Gemma4Config::parse(small(text, root));
}

std::string refusal(const object& config) {
  try {
    Gemma4Config::parse(config);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kBadCheckpoint);
    EXPECT_THAT(error.what(), HasSubstr("config.json"));
    return error.what();
  }
  ADD_FAILURE() << "accepted: " << boost::json::serialize(config);
  return {};
}

std::string refusal(const char* text, const char* root = "{}") {
  return refusal(small(text, root));
}

object without(object config, std::initializer_list<const char*> names) {
  for (const char* name : names) {
    config.erase(name);
    if (value* text = config.if_contains("text_config")) text->as_object().erase(name);
  }
  return config;
}

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

TEST(Gemma4Config, The26bGivesItsTable) {
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

TEST(Gemma4Config, EosIdsComeFromTheTopLevelElseFromTheText) {
  FACET_REQUIRE_SHARED(folder, "real-configs");
  const auto eos = [&folder](const char* name) {
    return Gemma4Config::parse(read_json_object(folder + "/" + name)).eos_token_id;
  };
  EXPECT_THAT(eos("nvidia--Gemma-4-26B-A4B-NVFP4_config.json"),
              ElementsAre(TokenId{1}, TokenId{106}));
  EXPECT_THAT(eos("google--gemma-4-26B-A4B_config.json"), ElementsAre(TokenId{1}));
}

TEST(Gemma4Config, The31bGivesItsTable) {
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
TEST(Gemma4Config, TheE2bGivesItsTable) {
  object config = small();
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

TEST(Gemma4Config, ThePerLayerEmbeddingGolden) {
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

TEST(Gemma4Config, EveryGoldenParses) {
  FACET_REQUIRE_SHARED(goldens, "goldens");
  int32_t count = 0;
  for (const auto& entry : std::filesystem::directory_iterator(goldens)) {
    if (!entry.is_directory()) continue;
    const std::string name = entry.path().filename();
    SCOPED_TRACE(name);
    const Gemma4Config config =
        Gemma4Config::parse(read_json_object(entry.path().string() + "/config.json"));
    EXPECT_EQ(config.enable_moe_block, name.starts_with("moe"));
    EXPECT_EQ(config.tie_word_embeddings, name != "dense-untied-bf16");
    EXPECT_EQ(config.num_experts, !config.enable_moe_block           ? 0
                                  : name == "moe-nvfp4-modelopt-128" ? 128
                                                                     : 8);
    EXPECT_EQ(config.layers.back().attention, Attention::kFull);
    EXPECT_EQ(config.has_vision, name == "moe-vision-bf16" || name == "moe-nvfp4-modelopt");
    EXPECT_THAT(config.placeholder_ids, ElementsAre(TokenId{302}, TokenId{303}, TokenId{306}));
    ++count;
  }
  EXPECT_GE(count, 13);
}

TEST(Gemma4Config, DefaultsAreThoseOfTheLibrary) {
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

TEST(Gemma4Config, UnifiedHasDefaultsOfItsOwn) {
  const object bare = parse_json(R"({"architectures": ["Gemma4UnifiedForConditionalGeneration"],
      "model_type": "gemma4_unified", "vision_config": {}, "audio_config": {},
      "text_config": {"model_type": "gemma4_unified_text"}})")
                          .as_object();
  const Gemma4Config config = Gemma4Config::parse(bare);
  EXPECT_EQ(config.hidden_size_per_layer_input, 0);
  EXPECT_EQ(config.sliding_window, 1024);
  EXPECT_EQ(config.max_position_embeddings, 262144);
  EXPECT_EQ(config.use_bidirectional_attention, BidirectionalAttention::kVision);
  EXPECT_TRUE(config.has_vision);
  EXPECT_TRUE(config.has_audio);
}

TEST(Gemma4Config, CausalTextMayLieAtTheRootOrNested) {
  object nested = small();
  nested["architectures"] = array{"Gemma4ForCausalLM"};
  object flat = nested["text_config"].as_object();
  flat["architectures"] = array{"Gemma4ForCausalLM"};
  const Gemma4Config a = Gemma4Config::parse(nested);
  const Gemma4Config b = Gemma4Config::parse(flat);
  EXPECT_EQ(a.layers, b.layers);
  EXPECT_EQ(b.hidden_size, 96);
  EXPECT_EQ(b.num_experts, 8);
  EXPECT_THAT(b.eos_token_id, ElementsAre(TokenId{1}));
}

TEST(Gemma4Config, RefusesOtherModelsByName) {
  EXPECT_THAT(refusal("{}", R"({"architectures": ["Gemma3ForConditionalGeneration"]})"),
              AllOf(HasSubstr("found Gemma3ForConditionalGeneration"),
                    HasSubstr("Gemma4ForConditionalGeneration"), HasSubstr("Gemma4ForCausalLM"),
                    HasSubstr("Gemma4UnifiedForConditionalGeneration")));
  EXPECT_THAT(refusal("{}", R"({"architectures": ["Gemma4AssistantForCausalLM"]})"),
              HasSubstr("Gemma4AssistantForCausalLM"));
  EXPECT_THAT(refusal("{}", R"({"architectures": []})"), HasSubstr("found none"));
  EXPECT_THAT(refusal("{}", R"({"architectures": null})"), HasSubstr("found none"));
  EXPECT_THAT(refusal("{}", R"({"model_type": "llama"})"), HasSubstr("found \"llama\""));
  EXPECT_THAT(refusal(R"({"model_type": "gemma3_text"})"), HasSubstr("found \"gemma3_text\""));
  EXPECT_THAT(refusal("{}", R"({"text_config": null})"), HasSubstr("text_config"));
  EXPECT_THAT(refusal(object()), HasSubstr("architectures"));
}

TEST(Gemma4Config, TopKHasFiveNamesInOrder) {
  const char* const names[] = {"num_experts_per_tok", "num_experts_per_token", "top_k_experts",
                               "moe_top_k", "moe_topk"};
  for (size_t first = 0; first < std::size(names); ++first) {
    object config = without(small(), {"top_k_experts"});
    object& text = config["text_config"].as_object();
    for (size_t i = 0; i < std::size(names); ++i) {
      // Those before are null, those after hold another number.
      text[names[i]] = i < first ? value() : value(static_cast<int64_t>(i - first + 3));
    }
    EXPECT_EQ(Gemma4Config::parse(config).top_k_experts, 3) << names[first];
  }
  EXPECT_THAT(refusal(R"({"top_k_experts": null})"), HasSubstr("num_experts_per_tok: missing"));
  EXPECT_THAT(refusal(R"({"top_k_experts": 9})"), HasSubstr("top_k_experts: found 9"));
  EXPECT_THAT(refusal(R"({"moe_topk": 9, "top_k_experts": null})"),
              HasSubstr("moe_topk: found 9, wanted 1 to 8"));
  EXPECT_THAT(refusal(R"({"top_k_experts": 0})"), HasSubstr("top_k_experts"));
  EXPECT_EQ(parse(R"({"top_k_experts": 8})").top_k_experts, 8);
}

TEST(Gemma4Config, OlderNamesOfTheExperts) {
  const Gemma4Config config = parse(R"({"enable_moe_block": null, "use_second_mlp_block": true,
      "moe_intermediate_size": null, "expert_intermediate_size": 64})");
  EXPECT_TRUE(config.enable_moe_block);
  EXPECT_TRUE(config.layers[0].sparse);
  EXPECT_EQ(config.moe_intermediate_size, 64);
  EXPECT_THAT(refusal(R"({"num_experts": null})"), HasSubstr("num_experts: missing"));
  EXPECT_THAT(refusal(R"({"moe_intermediate_size": null})"),
              HasSubstr("moe_intermediate_size: missing"));
  const Gemma4Config dense = parse(R"({"enable_moe_block": false})");
  EXPECT_EQ(dense.num_experts, 0);
  EXPECT_FALSE(dense.layers[0].sparse);
}

TEST(Gemma4Config, GlobalKvHeadsNeedKEqV) {
  const Gemma4Config shared = parse("{}");
  EXPECT_EQ(shared.layers[2].num_kv_heads, 1);
  EXPECT_TRUE(shared.layers[2].k_eq_v);
  EXPECT_EQ(shared.layers[0].num_kv_heads, 2);
  EXPECT_FALSE(shared.layers[0].k_eq_v);
  const Gemma4Config own = parse(R"({"attention_k_eq_v": false})");
  EXPECT_EQ(own.layers[2].num_kv_heads, 2);
  EXPECT_FALSE(own.layers[2].k_eq_v);
  EXPECT_EQ(parse(R"({"num_global_key_value_heads": null})").layers[2].num_kv_heads, 2);
  // Not a divisor, but not used either.
  EXPECT_NO_THROW(parse(R"({"attention_k_eq_v": false, "num_global_key_value_heads": 3})"));
  EXPECT_THAT(refusal(R"({"num_global_key_value_heads": 3})"),
              HasSubstr("num_global_key_value_heads: found 3, wanted a divisor"));
  EXPECT_EQ(parse(R"({"global_head_dim": null})").layers[2].head_dim, 32);
}

TEST(Gemma4Config, LayerTypesAndTheirDefault) {
  const Gemma4Config seven = parse(R"({"layer_types": null, "num_hidden_layers": 7})");
  EXPECT_THAT(full_layers(seven), ElementsAre(5, 6));  // the last one is full in any case
  const Gemma4Config one =
      parse(R"({"layer_types": ["sliding_attention"], "num_hidden_layers": 1})");
  EXPECT_THAT(full_layers(one), ElementsAre(0));
  EXPECT_THAT(refusal(R"({"num_hidden_layers": 7})"),
              AllOf(HasSubstr("layer_types: found 6 entries"), HasSubstr("wanted 7")));
  EXPECT_THAT(refusal(R"({"layer_types": ["chunked_attention"], "num_hidden_layers": 1})"),
              HasSubstr("\"chunked_attention\""));
  EXPECT_THAT(refusal(R"({"layer_types": [], "num_hidden_layers": 1})"), HasSubstr("layer_types"));
}

TEST(Gemma4Config, RopeByKind) {
  const auto rope = [](const char* full) {
    return fmt::format(R"({{"rope_parameters": {{"full_attention": {},
        "sliding_attention": {{"rope_theta": 10000}}}}}})",
                       full);
  };
  const auto parsed = [&rope](const char* full) {
    return parse(rope(full).c_str()).layers[2].rope;
  };
  EXPECT_EQ(parsed(R"({"rope_theta": 5e5, "rope_type": "default"})"), (RopeParameters{5e5, 32}));
  EXPECT_EQ(parsed(R"({"rope_theta": 5e5, "rope_type": "proportional"})"),
            (RopeParameters{5e5, 32}));
  EXPECT_EQ(
      parsed(R"({"rope_theta": 5e5, "rope_type": "proportional", "partial_rotary_factor": 0.3})"),
      (RopeParameters{5e5, 9}));  // floor(0.3 * 64 / 2)
  EXPECT_EQ(parse(R"({"rope_parameters": null})").layers[2].rope, (RopeParameters{1e6, 8}));
  EXPECT_EQ(parse(R"({"rope_parameters": null})").layers[0].rope, (RopeParameters{1e4, 16}));
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

TEST(Gemma4Config, SharedLayersNeedADonorOfTheirKind) {
  EXPECT_THAT(donors(parse(R"({"num_kv_shared_layers": 1})")), ElementsAre(0, 1, 2, 3, 4, 2));
  EXPECT_THAT(donors(parse(R"({"num_kv_shared_layers": 3})")), ElementsAre(0, 1, 2, 1, 1, 2));
  // Layers 0 and 1 are sliding: layer 2, full, has nobody to read from.
  EXPECT_THAT(refusal(R"({"num_kv_shared_layers": 4})"),
              AllOf(HasSubstr("num_kv_shared_layers: found 4"), HasSubstr("layer 2"),
                    HasSubstr("full_attention")));
  const Gemma4Config wide = parse(R"({"num_kv_shared_layers": 3, "use_double_wide_mlp": true})");
  EXPECT_EQ(wide.layers[2].intermediate_size, 160);
  EXPECT_EQ(wide.layers[3].intermediate_size, 320);
  const Gemma4Config none_shared = parse(R"({"use_double_wide_mlp": true})");
  EXPECT_EQ(none_shared.layers[5].intermediate_size, 160);
}

TEST(Gemma4Config, TiedEmbeddings) {
  const auto tied = [](const char* text, const char* root) {
    return parse(text, root).tie_word_embeddings;
  };
  EXPECT_FALSE(tied(R"({"tie_word_embeddings": false})", R"({"tie_word_embeddings": null})"));
  EXPECT_FALSE(tied(R"({"tie_word_embeddings": null})", R"({"tie_word_embeddings": false})"));
  EXPECT_TRUE(tied(R"({"tie_word_embeddings": null})", R"({"tie_word_embeddings": null})"));
  EXPECT_THAT(refusal(R"({"tie_word_embeddings": false})"),
              HasSubstr("tie_word_embeddings: found false, wanted true"));
}

TEST(Gemma4Config, TokenIds) {
  EXPECT_THAT(parse("{}", R"({"eos_token_id": 7})").eos_token_id, ElementsAre(TokenId{7}));
  EXPECT_THAT(parse(R"({"eos_token_id": [3, 4]})", R"({"eos_token_id": null})").eos_token_id,
              ElementsAre(TokenId{3}, TokenId{4}));
  EXPECT_THAT(parse(R"({"eos_token_id": null})", R"({"eos_token_id": null})").eos_token_id,
              ElementsAre(TokenId{1}));
  const Gemma4Config image =
      parse("{}", R"({"image_token_id": 258880, "video_token_id": null, "audio_token_id": null})");
  EXPECT_EQ(image.image_token_id, TokenId{258880});
  EXPECT_EQ(image.video_token_id, std::nullopt);
  EXPECT_THAT(image.placeholder_ids, ElementsAre(TokenId{258880}));
  EXPECT_EQ(parse(R"({"pad_token_id": null})").pad_token_id, TokenId{0});
  EXPECT_THAT(refusal("{}", R"({"eos_token_id": []})"), HasSubstr("eos_token_id"));
  EXPECT_THAT(refusal("{}", R"({"eos_token_id": [1, -1]})"), HasSubstr("eos_token_id: found -1"));
  EXPECT_THAT(refusal("{}", R"({"eos_token_id": "</s>"})"), HasSubstr("eos_token_id"));
  EXPECT_THAT(refusal(R"({"pad_token_id": 320})"), HasSubstr("pad_token_id: found 320"));
  EXPECT_THAT(refusal(R"({"pad_token_id": -1})"), HasSubstr("pad_token_id: found -1"));
  EXPECT_THAT(refusal("{}", R"({"image_token_id": 1.5})"), HasSubstr("image_token_id"));
}

TEST(Gemma4Config, SizesAreBounded) {
  const auto refused = [](const char* name, const char* found) {
    EXPECT_THAT(refusal(fmt::format(R"({{"{}": {}}})", name, found).c_str()),
                AllOf(HasSubstr("text_config"), HasSubstr(fmt::format("field {}:", name))))
        << found;
  };
  for (const char* name :
       {"vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers",
        "num_attention_heads", "num_key_value_heads", "num_global_key_value_heads", "head_dim",
        "global_head_dim", "sliding_window", "max_position_embeddings", "num_experts",
        "top_k_experts", "moe_intermediate_size"}) {
    for (const char* found :
         {"0", "-1", "1099511627776", "18446744073709551615", "1.5", "true", "\"8\"", "[]"}) {
      refused(name, found);
    }
  }
  refused("hidden_size", "1048577");
  refused("num_hidden_layers", "4097");
  refused("vocab_size", "16777217");
  refused("head_dim", "33");
  refused("global_head_dim", "63");
  refused("num_key_value_heads", "3");
  refused("rms_norm_eps", "0");
  refused("rms_norm_eps", "-1e-6");
  refused("final_logit_softcapping", "0");
  refused("final_logit_softcapping", "\"30\"");
  refused("num_kv_shared_layers", "6");
  refused("num_kv_shared_layers", "-1");
  refused("hidden_size_per_layer_input", "-1");
  refused("attention_bias", "true");
  refused("use_bidirectional_attention", "\"all\"");
  refused("use_bidirectional_attention", "true");
  refused("per_layer_config", "3");
}

TEST(Gemma4Config, PerLayerEmbeddings) {
  EXPECT_EQ(parse(R"({"hidden_size_per_layer_input": null})").hidden_size_per_layer_input, 0);
  EXPECT_EQ(Gemma4Config::parse(without(small(R"({"vocab_size_per_layer_input": 262144})"),
                                        {"hidden_size_per_layer_input"}))
                .hidden_size_per_layer_input,
            256);
  EXPECT_THAT(refusal(R"({"hidden_size_per_layer_input": 16, "vocab_size_per_layer_input": 319})"),
              HasSubstr("vocab_size_per_layer_input: found 319, wanted at least vocab_size, 320"));
  EXPECT_NO_THROW(parse(R"({"hidden_size_per_layer_input": 0, "vocab_size_per_layer_input": 0})"));
}

/// Every place in a document that holds a value, as a way to reach it.
void collect(value& at, std::vector<value*>& places) {
  places.push_back(&at);
  if (object* members = at.if_object()) {
    for (auto& member : *members) collect(member.value(), places);
  } else if (array* elements = at.if_array()) {
    for (value& element : *elements) collect(element, places);
  }
}

/// Parses, and fails the test for anything but success or Error.
bool survives(const value& config) {
  try {
    const Gemma4Config parsed = Gemma4Config::parse(config.as_object());
    EXPECT_EQ(parsed.layers.size(), static_cast<size_t>(parsed.num_hidden_layers));
    for (const LayerConfig& layer : parsed.layers) {
      EXPECT_GT(layer.q_size(), 0);
      EXPECT_EQ(layer.num_heads % layer.num_kv_heads, 0);
      EXPECT_LE(layer.rope.rotated_pairs, layer.head_dim / 2);
      EXPECT_EQ(parsed.layers.at(static_cast<size_t>(layer.kv_donor)).attention, layer.attention);
    }
    return true;
  } catch (const Error&) {
    return false;
  }
}

TEST(Gemma4Config, DeletedAndMutatedFieldsEndInAnErrorAtWorst) {
  const auto found = test::shared_path("real-configs/nvidia--Gemma-4-26B-A4B-NVFP4_config.json");
  const value original = found ? value(read_json_object(*found)) : value(small());
  const char* const replacements[] = {"null",
                                      "true",
                                      "false",
                                      "0",
                                      "1",
                                      "-1",
                                      "2",
                                      "3",
                                      "0.5",
                                      "1e308",
                                      "9223372036854775807",
                                      "18446744073709551615",
                                      "-9223372036854775808",
                                      "\"\"",
                                      "\"all\"",
                                      "[]",
                                      "{}",
                                      "[1]",
                                      "[null]",
                                      "[\"full_attention\"]",
                                      R"({"rope_theta": 1})",
                                      "65536",
                                      "4096"};
  uint32_t state = 99;
  const auto next = [&state](size_t bound) {
    state = state * 1664525U + 1013904223U;
    return (state >> 8) % bound;
  };
  int32_t accepted = 0;
  for (int32_t round = 0; round < 4000; ++round) {
    value config = original;
    config.as_object().erase("quantization_config");
    for (size_t changes = 1 + next(3); changes > 0; --changes) {
      std::vector<value*> places;
      collect(config, places);
      value& place = *places[1 + next(places.size() - 1)];  // not the root
      object* members = place.if_object();
      if (members != nullptr && !members->empty() && next(2) == 0) {
        members->erase(members->begin() + static_cast<int64_t>(next(members->size())));
      } else {
        place = parse_json(replacements[next(std::size(replacements))]);
      }
    }
    accepted += survives(config) ? 1 : 0;
  }
  EXPECT_GT(accepted, 0);
  EXPECT_LT(accepted, 4000);
}

// Each field of text_config alone, deleted and with every replacement.
TEST(Gemma4Config, EachFieldAloneEndsInAnErrorAtWorst) {
  const object original = small();
  for (const auto& member : original.at("text_config").as_object()) {
    EXPECT_NO_FATAL_FAILURE(survives(without(original, {std::string(member.key()).c_str()})));
    for (const char* replacement :
         {"null", "-1", "0", "1", "7", "1e300", "\"x\"", "[]", "{}", "[0]"}) {
      object config = original;
      config["text_config"].as_object()[member.key()] = parse_json(replacement);
      EXPECT_NO_FATAL_FAILURE(survives(config));
    }
  }
}

}  // namespace
}  // namespace facet::gemma4
