#include "model/gemma4/config.h"

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

using boost::json::array;
using boost::json::object;
using boost::json::value;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

namespace test {

object small_config(const char* text, const char* root) {
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

Gemma4Config parse_small(const char* text, const char* root) {
  return Gemma4Config::parse(small_config(text, root));
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

std::string refusal(const char* text, const char* root) {
  return refusal(small_config(text, root));
}

}  // namespace test

namespace {

using test::parse_small;
using test::refusal;
using test::small_config;

object without(object config, std::initializer_list<const char*> names) {
  for (const char* name : names) {
    config.erase(name);
    if (value* text = config.if_contains("text_config")) text->as_object().erase(name);
  }
  return config;
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
    EXPECT_EQ(config.layers.back().attention, LayerConfig::Attention::kFull);
    EXPECT_EQ(config.has_vision, name == "moe-vision-bf16" || name == "moe-nvfp4-modelopt");
    EXPECT_THAT(config.placeholder_ids, ElementsAre(TokenId{302}, TokenId{303}, TokenId{306}));
    ++count;
  }
  EXPECT_GE(count, 13);
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
  object nested = small_config();
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
    object config = without(small_config(), {"top_k_experts"});
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
  EXPECT_EQ(parse_small(R"({"top_k_experts": 8})").top_k_experts, 8);
}

TEST(Gemma4Config, OlderNamesOfTheExperts) {
  const Gemma4Config config =
      parse_small(R"({"enable_moe_block": null, "use_second_mlp_block": true,
      "moe_intermediate_size": null, "expert_intermediate_size": 64})");
  EXPECT_TRUE(config.enable_moe_block);
  EXPECT_TRUE(config.layers[0].sparse);
  EXPECT_EQ(config.moe_intermediate_size, 64);
  EXPECT_THAT(refusal(R"({"num_experts": null})"), HasSubstr("num_experts: missing"));
  EXPECT_THAT(refusal(R"({"moe_intermediate_size": null})"),
              HasSubstr("moe_intermediate_size: missing"));
  const Gemma4Config dense = parse_small(R"({"enable_moe_block": false})");
  EXPECT_EQ(dense.num_experts, 0);
  EXPECT_FALSE(dense.layers[0].sparse);
}

TEST(Gemma4Config, TiedEmbeddings) {
  const auto tied = [](const char* text, const char* root) {
    return parse_small(text, root).tie_word_embeddings;
  };
  EXPECT_FALSE(tied(R"({"tie_word_embeddings": false})", R"({"tie_word_embeddings": null})"));
  EXPECT_FALSE(tied(R"({"tie_word_embeddings": null})", R"({"tie_word_embeddings": false})"));
  EXPECT_TRUE(tied(R"({"tie_word_embeddings": null})", R"({"tie_word_embeddings": null})"));
  EXPECT_THAT(refusal(R"({"tie_word_embeddings": false})"),
              HasSubstr("tie_word_embeddings: found false, wanted true"));
}

TEST(Gemma4Config, TokenIds) {
  EXPECT_THAT(parse_small("{}", R"({"eos_token_id": 7})").eos_token_id, ElementsAre(TokenId{7}));
  EXPECT_THAT(parse_small(R"({"eos_token_id": [3, 4]})", R"({"eos_token_id": null})").eos_token_id,
              ElementsAre(TokenId{3}, TokenId{4}));
  EXPECT_THAT(parse_small(R"({"eos_token_id": null})", R"({"eos_token_id": null})").eos_token_id,
              ElementsAre(TokenId{1}));
  const Gemma4Config image = parse_small(
      "{}", R"({"image_token_id": 258880, "video_token_id": null, "audio_token_id": null})");
  EXPECT_EQ(image.image_token_id, TokenId{258880});
  EXPECT_EQ(image.video_token_id, std::nullopt);
  EXPECT_THAT(image.placeholder_ids, ElementsAre(TokenId{258880}));
  EXPECT_EQ(parse_small(R"({"pad_token_id": null})").pad_token_id, TokenId{0});
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
  refused("final_logit_softcapping", "1e-60");  // zero as float32
  refused("final_logit_softcapping", "1e60");
  refused("final_logit_softcapping", "\"30\"");
  refused("num_kv_shared_layers", "6");
  refused("num_kv_shared_layers", "-1");
  refused("hidden_size_per_layer_input", "-1");
  refused("attention_bias", "true");
  refused("use_bidirectional_attention", "\"all\"");
  refused("use_bidirectional_attention", "true");
  EXPECT_THAT(refusal(R"({"per_layer_config": {"2": {"head_dim": 64}}, "global_head_dim": null})"),
              HasSubstr("per_layer_config"));
}

TEST(Gemma4Config, PerLayerEmbeddings) {
  EXPECT_EQ(parse_small(R"({"hidden_size_per_layer_input": null})").hidden_size_per_layer_input, 0);
  EXPECT_EQ(Gemma4Config::parse(without(small_config(R"({"vocab_size_per_layer_input": 262144})"),
                                        {"hidden_size_per_layer_input"}))
                .hidden_size_per_layer_input,
            256);
  EXPECT_THAT(refusal(R"({"hidden_size_per_layer_input": 16, "vocab_size_per_layer_input": 319})"),
              HasSubstr("vocab_size_per_layer_input: found 319, wanted at least vocab_size, 320"));
  EXPECT_NO_THROW(
      parse_small(R"({"hidden_size_per_layer_input": 0, "vocab_size_per_layer_input": 0})"));
}

}  // namespace
}  // namespace facet::gemma4
