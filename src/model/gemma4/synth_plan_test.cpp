// What a synthetic checkpoint holds, against the real checkpoints' published sizes and against
// reference checkpoints tensor by tensor.

#include "model/gemma4/synth_plan.h"

#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <filesystem>
#include <fmt/core.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <map>
#include <set>

#include "base/error.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/json.h"
#include "model/gemma4/names.h"
#include "tests/support.h"

namespace facet::gemma4 {
namespace {

namespace fs = std::filesystem;
using boost::json::object;
using testing::HasSubstr;

SynthPlan plan_of(const object& config, const std::optional<object>& hf_quant_config = {}) {
  const Gemma4Config parsed = Gemma4Config::parse(config);
  return plan_synth(parsed, QuantConfig::parse(config, hf_quant_config),
                    *find_activation(parsed.hidden_activation), 0);
}

int64_t elements_of(const SynthPlan& plan) {
  int64_t elements = 0;
  for (const SynthTensor& tensor : plan.tensors) elements += tensor.shape.elements();
  return elements;
}

std::string described(DType dtype, const Shape& shape) {
  return fmt::format("{} {}", to_string(dtype), to_string(shape));
}

// checkpoint-formats 0.2 and 2.10; gemma4-architecture 7.1 and 7.5.

TEST(SynthPlanOfReal, Nvidia26BNvfp4) {
  FACET_REQUIRE_SHARED(folder, "real-configs");
  const std::string name = folder + "/nvidia--Gemma-4-26B-A4B-NVFP4_";
  const object config = read_json_object(name + "config.json");
  const SynthPlan plan = plan_of(config, read_json_object(name + "hf_quant_config.json"));
  EXPECT_EQ(plan.tensors.size(), 46677u);
  EXPECT_EQ(plan.bytes, 17'636'771'900);

  std::map<std::string, std::string> forms;
  for (const SynthTensor& tensor : plan.tensors) {
    forms[tensor.name] = described(tensor.dtype, tensor.shape);
  }
  const std::string layer = "model.language_model.layers.29.";
  const std::map<std::string, std::string> wanted = {
      {"model.language_model.embed_tokens.weight", "BF16 [262144, 2816]"},
      {layer + "layer_scalar", "BF16 [1]"},
      {layer + "self_attn.q_proj.weight", "BF16 [8192, 2816]"},
      {layer + "mlp.down_proj.weight", "BF16 [2816, 2112]"},
      {layer + "router.per_expert_scale", "BF16 [128]"},
      {layer + "experts.127.gate_proj.weight", "U8 [704, 1408]"},
      {layer + "experts.127.gate_proj.weight_scale", "F8_E4M3 [704, 176]"},
      {layer + "experts.127.down_proj.weight", "U8 [2816, 352]"},
      {layer + "experts.127.down_proj.weight_scale", "F8_E4M3 [2816, 44]"},
      {layer + "experts.127.down_proj.weight_scale_2", "F32 []"},
      {layer + "experts.127.down_proj.input_scale", "F32 []"},
  };
  for (const auto& [tensor, form] : wanted) EXPECT_EQ(forms[tensor], form) << tensor;
  EXPECT_FALSE(forms.contains(layer + "self_attn.v_proj.weight"));  // a full layer: V is K
  EXPECT_FALSE(forms.contains(layer + "self_attn.k_proj.k_scale"));
  EXPECT_FALSE(forms.contains("lm_head.weight"));
}

TEST(SynthPlanOfReal, Nvidia31BNvfp4) {
  FACET_REQUIRE_SHARED(folder, "real-configs");
  const std::string name = folder + "/nvidia--Gemma-4-31B-IT-NVFP4_";
  const SynthPlan plan = plan_of(read_json_object(name + "config.json"),
                                 read_json_object(name + "hf_quant_config.json"));
  // 50 sliding layers of 11 + 12 tensors, 10 full ones of 10 + 12, embedding and final norm.
  EXPECT_EQ(plan.tensors.size(), 50u * 23 + 10u * 22 + 2);
  constexpr int64_t kMlp = 20'808'990'720;
  constexpr int64_t kAll = 30'697'345'340;
  EXPECT_EQ(plan.bytes, 2 * (kAll - kMlp) + kMlp * 9 / 16 + 60 * 3 * 2 * 4);
}

TEST(SynthPlanOfReal, Google26BBf16) {
  FACET_REQUIRE_SHARED(folder, "real-configs");
  const object config = read_json_object(folder + "/google--gemma-4-26B-A4B_config.json");
  const SynthPlan plan = plan_of(config);
  EXPECT_EQ(plan.tensors.size(), 25u * 14 + 5u * 13 + 30u * 6 + 30u * 2 + 2);
  EXPECT_EQ(plan.bytes, 2 * 25'233'141'790);
}

/// The config of the BF16 26B with the quantisation of a small reference checkpoint.
object quantized_as(const std::string& folder, const char* golden) {
  object config = read_json_object(folder + "/google--gemma-4-26B-A4B_config.json");
  const object other =
      read_json_object(test::data_path(fmt::format("goldens/{}/config.json", golden)));
  object quant = other.at("quantization_config").as_object();
  quant["ignore"] = boost::json::array{"lm_head", "re:.*router.*"};  // of all layers
  config["quantization_config"] = std::move(quant);
  return config;
}

// Linears of the 26B: 115 of attention, 90 of the dense MLPs, 30 routers, 11,520 of the experts.

TEST(SynthPlanOfReal, Fp8DynamicOf26B) {
  FACET_REQUIRE_SHARED(folder, "real-configs");
  const SynthPlan plan = plan_of(quantized_as(folder, "moe-fp8-dynamic"));
  EXPECT_EQ(plan.tensors.size(), 657u - 60 + 115 + 90 + 11520 * 2);
}

TEST(SynthPlanOfReal, CompressedTensorsNvfp4Of26B) {
  FACET_REQUIRE_SHARED(folder, "real-configs");
  const SynthPlan plan = plan_of(quantized_as(folder, "moe-nvfp4-compressed-tensors"));
  EXPECT_EQ(plan.tensors.size(), 657u - 60 + (115 + 90) * 3 + 11520 * 4);
}

TEST(SynthPlanOfReal, MixedFp8Nvfp4Of26B) {
  FACET_REQUIRE_SHARED(folder, "real-configs");
  const SynthPlan plan = plan_of(quantized_as(folder, "moe-mixed-fp8-nvfp4"));
  const size_t cache_scales = 30 * 2;
  EXPECT_EQ(plan.tensors.size(), 657u - 60 + 115 + 90 * 3 + 11520 * 4 + cache_scales);
}

TEST(SynthPlanOfReal, Int4Of31B) {
  FACET_REQUIRE_SHARED(folder, "real-configs");
  object config = read_json_object(folder + "/nvidia--Gemma-4-31B-IT-NVFP4_config.json");
  config["quantization_config"] =
      read_json_object(test::data_path("goldens/dense-int4-g32/config.json"))
          .at("quantization_config");
  const SynthPlan plan = plan_of(config);
  EXPECT_EQ(plan.tensors.size(), 50u * (14 + 7 * 2) + 10u * (13 + 6 * 2) + 2);
}

TEST(SynthPlan, E4BHasThePublishedParameters) {
  const object config = boost::json::parse(R"({
    "architectures": ["Gemma4ForConditionalGeneration"], "model_type": "gemma4",
    "text_config": {
      "vocab_size": 262144, "hidden_size": 2560, "intermediate_size": 10240,
      "num_hidden_layers": 42, "num_attention_heads": 8, "num_key_value_heads": 2,
      "head_dim": 256, "global_head_dim": 512, "sliding_window": 512,
      "num_kv_shared_layers": 18, "hidden_size_per_layer_input": 256,
      "vocab_size_per_layer_input": 262144, "eos_token_id": 1}})")
                            .as_object();
  // The unused k and v matrices, and the k_norm of 15 sliding and 3 full layers.
  EXPECT_EQ(elements_of(plan_of(config)), 7'463'013'418 + 55'050'240 + 15 * 256 + 3 * 512);
}

/// The reference checkpoints of the repository and, where they are, all of them.
std::map<std::string, std::string> goldens() {
  std::map<std::string, std::string> found;
  std::vector<std::string> folders = {test::data_path("goldens")};
  if (const auto shared = test::shared_path("goldens")) folders.push_back(*shared);
  for (const std::string& folder : folders) {
    for (const auto& entry : fs::directory_iterator(folder)) {
      if (entry.is_directory()) found.emplace(entry.path().filename(), entry.path());
    }
  }
  return found;
}

TEST(SynthPlan, HoldsWhatReferenceCheckpointsHold) {
  const auto all = goldens();
  ASSERT_GE(all.size(), 9u);
  for (const auto& [name, folder] : all) {
    SCOPED_TRACE(name);
    const Checkpoint checkpoint(folder);
    std::map<std::string, std::string> wanted;
    for (const StoredTensor* tensor : checkpoint.tensors()) {
      const auto parsed = parse_tensor_name(tensor->name);
      ASSERT_TRUE(parsed);
      // One file declares an FP8 cache as the others do, but has ModelOpt's scales for it.
      const bool cache_scale =
          tensor->name.ends_with("proj.k_scale") || tensor->name.ends_with("proj.v_scale");
      if (parsed->text.empty() || cache_scale) continue;
      wanted[parsed->text] = described(tensor->dtype, tensor->shape);
    }
    std::map<std::string, std::string> found;
    for (const SynthTensor& tensor :
         plan_of(checkpoint.config(), checkpoint.hf_quant_config()).tensors) {
      found[parse_tensor_name(tensor.name)->text] = described(tensor.dtype, tensor.shape);
    }
    EXPECT_EQ(found, wanted);
  }
}

TEST(SynthPlan, TextOnlyModelsHaveTheShorterPrefix) {
  object config = read_json_object(test::data_path("goldens/moe-bf16-fused/config.json"));
  config["architectures"] = boost::json::array{"Gemma4ForCausalLM"};
  for (const SynthTensor& tensor : plan_of(config).tensors) {
    EXPECT_TRUE(tensor.name.starts_with("model.") && !tensor.name.starts_with("model.language"))
        << tensor.name;
  }
}

TEST(SynthPlan, GateAndUpShareTheirScalesAndExpertsDoNot) {
  const Checkpoint golden(test::data_path("goldens/moe-nvfp4-modelopt"));
  std::map<std::string, double> values;
  for (const SynthTensor& tensor : plan_of(golden.config(), golden.hf_quant_config()).tensors) {
    if (tensor.dtype == DType::kF32) values[tensor.name] = tensor.law.mean;
  }
  std::set<double> distinct;
  const std::string experts = "model.language_model.layers.0.experts.";
  for (const char* what : {"weight_scale_2", "input_scale"}) {
    for (int32_t e = 0; e < 8; ++e) {
      const double gate = values.at(fmt::format("{}{}.gate_proj.{}", experts, e, what));
      EXPECT_EQ(gate, values.at(fmt::format("{}{}.up_proj.{}", experts, e, what)));
      EXPECT_GT(gate, 0.0);
      distinct.insert(gate);
    }
  }
  EXPECT_EQ(distinct.size(), 16u);
}

std::string refusal_of(const object& config) {
  try {
    plan_of(config);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kBadCheckpoint);
    return error.what();
  }
  ADD_FAILURE() << "accepted: " << boost::json::serialize(config);
  return {};
}

TEST(SynthPlan, ColumnsThatAFormatCannotHoldAreNamed) {
  object config = read_json_object(test::data_path("goldens/moe-nvfp4-modelopt/config.json"));
  config["text_config"].as_object()["moe_intermediate_size"] = 40;
  EXPECT_THAT(refusal_of(config),
              testing::AllOf(HasSubstr("experts.0.down_proj"), HasSubstr("40 columns"),
                             HasSubstr("multiple of 16")));
  config = read_json_object(test::data_path("goldens/dense-int4-g32/config.json"));
  config["text_config"].as_object()["intermediate_size"] = 168;
  EXPECT_THAT(refusal_of(config), testing::AllOf(HasSubstr("mlp.down_proj"),
                                                 HasSubstr("168 columns"), HasSubstr("32")));
}

TEST(SynthPlan, UnknownQuantMethodIsNamed) {
  object config = read_json_object(test::data_path("goldens/moe-bf16-fused/config.json"));
  config["quantization_config"] = object{{"quant_method", "gptq"}};
  EXPECT_THAT(refusal_of(config), HasSubstr("gptq"));
}

}  // namespace
}  // namespace facet::gemma4
