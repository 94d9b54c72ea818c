#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "checkpoint/json.h"
#include "checkpoint/quant_config.h"

namespace facet {
namespace {

using testing::AllOf;
using testing::HasSubstr;

constexpr QuantScheme kNvfp4 = {WeightFormat::kNvfp4, 16, true};

/// `flat` and `nested` are the members of config.json's quantization_config and of
/// hf_quant_config.json's "quantization"; an empty text leaves the file out.
QuantConfig parse(const std::string& flat, const std::string& nested = "") {
  boost::json::object config;
  if (!flat.empty()) {
    config["quantization_config"] = parse_json(R"({"quant_method": "modelopt", )" + flat + "}");
  }
  std::optional<boost::json::object> hf;
  if (!nested.empty()) {
    hf = parse_json(R"({"producer": {"name": "modelopt"}, "quantization": {)" + nested + "}}")
             .as_object();
  }
  return QuantConfig::parse(config, hf);
}

std::string refusal(const std::string& flat, const std::string& nested = "") {
  try {
    parse(flat, nested);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kBadCheckpoint);
    return error.what();
  }
  ADD_FAILURE() << "accepted: " << flat << " / " << nested;
  return {};
}

TEST(QuantConfigModelopt, AlgorithmsMapToSchemes) {
  const auto scheme = [](const std::string& algo) {
    return parse("\"quant_algo\": \"" + algo + "\"").scheme_of("model.layers.0.mlp.up_proj");
  };
  EXPECT_EQ(scheme("NVFP4"), kNvfp4);
  EXPECT_EQ(scheme("W4A16_NVFP4"), (QuantScheme{WeightFormat::kNvfp4, 16, false}));
  EXPECT_EQ(scheme("FP8"), (QuantScheme{WeightFormat::kFp8, 0, true, true}));
  EXPECT_EQ(scheme("FP8_PB_WO"), (QuantScheme{WeightFormat::kFp8Block, 0, false}));
}

TEST(QuantConfigModelopt, RefusesOtherAlgorithmsByName) {
  for (const std::string algo :
       {"NVFP4_AWQ", "MXFP8", "NVFP4_SVD", "W4A8_AWQ", "INT4", "nvfp4", ""}) {
    EXPECT_THAT(refusal("\"quant_algo\": \"" + algo + "\""),
                AllOf(HasSubstr("config.json: quantization_config"),
                      HasSubstr("field quant_algo: found \"" + algo + "\"")));
    EXPECT_THAT(refusal("", "\"quant_algo\": \"" + algo + "\""),
                AllOf(HasSubstr("hf_quant_config.json: quantization"),
                      HasSubstr("field quant_algo: found \"" + algo + "\"")));
  }
  EXPECT_THAT(refusal(R"("quant_algo": 4)"), HasSubstr("quant_algo"));
}

TEST(QuantConfigModelopt, NoAlgorithmMeansPlainWeights) {
  const QuantConfig plain = parse(R"("quant_algo": null, "kv_cache_scheme": "FP8")");
  EXPECT_FALSE(plain.quantized());
  EXPECT_TRUE(plain.kv_fp8());
  EXPECT_EQ(plain.describe(), "none");
  EXPECT_FALSE(parse("", R"("quant_algo": null)").quantized());
  EXPECT_THAT(refusal(R"("config_groups": {"group_0": {"targets": ["Linear"]}})"),
              HasSubstr("quant_algo: missing"));
}

TEST(QuantConfigModelopt, GroupSizeIsSixteenOrRefused) {
  EXPECT_EQ(parse(R"("quant_algo": "NVFP4", "group_size": 16)").scheme_of("a"), kNvfp4);
  EXPECT_EQ(parse(R"("quant_algo": "NVFP4", "group_size": null)").scheme_of("a"), kNvfp4);
  EXPECT_THAT(refusal(R"("quant_algo": "NVFP4", "group_size": 32)"),
              HasSubstr("field group_size: found 32, wanted 16 for NVFP4"));
  EXPECT_THAT(refusal("", R"("quant_algo": "W4A16_NVFP4", "group_size": 0)"),
              HasSubstr("field group_size: found 0, wanted 16"));
  EXPECT_THAT(
      refusal(
          R"("quant_algo": "NVFP4", "config_groups": {"group_0": {"weights": {"group_size": 8}}})"),
      HasSubstr("group_size: found 8"));
  EXPECT_THAT(refusal(R"("quant_algo": "FP8_PB_WO", "group_size": 64)"), HasSubstr("found 64"));
  EXPECT_THAT(refusal(R"("quant_algo": "NVFP4", "group_size": "16")"), HasSubstr("group_size"));
}

TEST(QuantConfigModelopt, ContradictionsNameBothFiles) {
  const auto both = AllOf(HasSubstr(" in config.json"), HasSubstr(" in hf_quant_config.json"));
  EXPECT_THAT(refusal(R"("quant_algo": "NVFP4")", R"("quant_algo": "FP8")"),
              AllOf(both, HasSubstr("quant_algo is NVFP4"), HasSubstr("but FP8")));
  EXPECT_THAT(refusal(R"("quant_algo": "NVFP4")", R"("quant_algo": null)"),
              AllOf(both, HasSubstr("but null")));
  EXPECT_THAT(refusal(R"("quant_algo": "NVFP4", "group_size": 16)",
                      R"("quant_algo": "NVFP4", "group_size": 32)"),
              AllOf(both, HasSubstr("group_size is 16"), HasSubstr("but 32")));
  EXPECT_THAT(
      refusal(R"("quant_algo": "NVFP4", "config_groups": {"g": {"weights": {"group_size": 16}}})",
              R"("quant_algo": "NVFP4", "group_size": 32)"),
      both);
}

TEST(QuantConfigModelopt, TheFlatFileIsPreferredTheOtherFillsIn) {
  const QuantConfig flat_wins =
      parse(R"("quant_algo": "NVFP4", "ignore": ["a"], "kv_cache_scheme": null)",
            R"("quant_algo": "NVFP4", "exclude_modules": ["b"], "kv_cache_quant_algo": "FP8")");
  EXPECT_EQ(flat_wins.scheme_of("a"), std::nullopt);
  EXPECT_EQ(flat_wins.scheme_of("b"), kNvfp4);
  EXPECT_FALSE(flat_wins.kv_fp8());
  const QuantConfig filled =
      parse(R"("producer": {})",
            R"("quant_algo": "NVFP4", "exclude_modules": ["b"], "kv_cache_quant_algo": "FP8")");
  EXPECT_EQ(filled.scheme_of("a"), kNvfp4);
  EXPECT_EQ(filled.scheme_of("b"), std::nullopt);
  EXPECT_TRUE(filled.kv_fp8());
}

TEST(QuantConfigModelopt, NestedMembersInConfigJsonAndConfigWithoutMethod) {
  const auto json = parse_json(R"({"quantization_config": {"producer": {"name": "modelopt"},
      "quantization": {"quant_algo": "NVFP4", "exclude_modules": ["lm_head"]}}})");
  const QuantConfig quant = QuantConfig::parse(json.as_object(), std::nullopt);
  EXPECT_EQ(quant.scheme_of("a"), kNvfp4);
  EXPECT_EQ(quant.scheme_of("lm_head"), std::nullopt);
  const auto in_text = parse_json(R"({"text_config": {"quantization_config":
      {"quant_method": "modelopt", "quant_algo": "NVFP4"}}})");
  EXPECT_TRUE(QuantConfig::parse(in_text.as_object(), std::nullopt).quantized());
}

TEST(QuantConfigModelopt, KvCacheFormats) {
  const auto kv = [](const std::string& text) {
    return parse(R"("quant_algo": "NVFP4", )" + text).kv_fp8();
  };
  EXPECT_TRUE(kv(R"("kv_cache_scheme": {"num_bits": 8, "type": "float", "dynamic": false})"));
  EXPECT_TRUE(kv(R"("kv_cache_scheme": {"num_bits": 8, "type": "float", "strategy": "tensor"})"));
  EXPECT_TRUE(kv(R"("kv_cache_scheme": "FP8")"));
  EXPECT_TRUE(kv(R"("kv_cache_quant_algo": "FP8")"));
  EXPECT_TRUE(kv(R"("kv_cache_scheme": null, "kv_cache_quant_algo": "FP8")"));
  EXPECT_FALSE(kv(R"("kv_cache_scheme": null)"));
  EXPECT_FALSE(kv(R"("kv_cache_quant_algo": null)"));
  EXPECT_FALSE(kv(R"("ignore": [])"));
  for (const char* bad :
       {R"("NVFP4")", R"("INT8")", R"("fp8")", "8", "true", "[]", "{}",
        R"({"num_bits": 4, "type": "float"})", R"({"num_bits": 8, "type": "int"})",
        R"({"num_bits": 8, "type": "float", "dynamic": true})",
        R"({"num_bits": 8, "type": "float", "strategy": "attn_head"})"}) {
    EXPECT_THAT(refusal(R"("quant_algo": "NVFP4", "kv_cache_scheme": )" + std::string(bad)),
                HasSubstr("field kv_cache_scheme"))
        << bad;
  }
  EXPECT_THAT(refusal("", R"("quant_algo": "NVFP4", "kv_cache_quant_algo": "NVFP4")"),
              AllOf(HasSubstr("hf_quant_config.json"), HasSubstr("NVFP4")));
}

TEST(QuantConfigModelopt, RefusesWhatChangesTheNumbers) {
  EXPECT_THAT(refusal(R"("quant_algo": "NVFP4", "pre_quant_scale": true)"),
              HasSubstr("pre_quant_scale"));
  EXPECT_THAT(refusal("", R"("quant_algo": "NVFP4", "has_zero_point": true)"),
              HasSubstr("has_zero_point"));
  EXPECT_TRUE(parse(R"("quant_algo": "NVFP4", "pre_quant_scale": false, "has_zero_point": false)")
                  .quantized());
  EXPECT_THAT(refusal(R"("quant_algo": "NVFP4", "ignore": [3])"), HasSubstr("ignore"));
  EXPECT_THAT(refusal(R"("quant_algo": "NVFP4", "ignore": "lm_head")"), HasSubstr("ignore"));
}

constexpr const char* kMixed =
    R"("quant_algo": "MIXED_PRECISION", "ignore": ["lm_head", "*.router*"],
  "quantized_layers": {
    "model.language_model.layers.0.self_attn.q_proj": {"quant_algo": "FP8"},
    "language_model.model.layers.0.mlp.up_proj": {"quant_algo": "W4A16_NVFP4", "group_size": 16},
    "model.layers.1.mlp.up_proj": {"quant_algo": "FP8_PB_WO", "group_size": 128},
    "model.layers.1.mlp.down_proj": {"quant_algo": null},
    "model.layers.1.router.proj": {"quant_algo": "FP8"},
    "model.layers.1.experts.0.up_proj": {"quant_algo": "NVFP4", "group_size": 16},
    "model.layers.1.experts.11.up_proj": {"quant_algo": "NVFP4", "group_size": 16}})";

TEST(QuantConfigModelopt, MixedPrecisionGoesByLayer) {
  for (const QuantConfig& quant : {parse(kMixed), parse("", kMixed)}) {
    EXPECT_EQ(quant.describe(), "modelopt MIXED_PRECISION");
    const auto scheme = [&quant](const std::string& name) { return quant.scheme_of(name); };
    for (const std::string root : {"model.language_model.", "language_model.model.", "model."}) {
      EXPECT_EQ(scheme(root + "layers.0.self_attn.q_proj"),
                (QuantScheme{WeightFormat::kFp8, 0, true, true}));
      EXPECT_EQ(scheme(root + "layers.0.mlp.up_proj"),
                (QuantScheme{WeightFormat::kNvfp4, 16, false}));
      EXPECT_EQ(scheme(root + "layers.1.mlp.up_proj"),
                (QuantScheme{WeightFormat::kFp8Block, 0, false}));
      EXPECT_EQ(scheme(root + "layers.1.mlp.down_proj"), std::nullopt);
      EXPECT_EQ(scheme(root + "layers.1.router.proj"), std::nullopt);  // excluded
      EXPECT_EQ(scheme(root + "layers.1.experts.0.up_proj"), kNvfp4);
      EXPECT_EQ(scheme(root + "layers.1.experts.1.up_proj"), std::nullopt);  // not 11
      EXPECT_EQ(scheme(root + "layers.1.experts"), kNvfp4);                  // a listed child
      EXPECT_EQ(scheme(root + "layers.1.expert"), std::nullopt);
      EXPECT_EQ(scheme(root + "layers.2.mlp.up_proj"), std::nullopt);
    }
  }
}

TEST(QuantConfigModelopt, MixedPrecisionRefusals) {
  const auto mixed = [](const std::string& layers) {
    return refusal(R"("quant_algo": "MIXED_PRECISION", "quantized_layers": )" + layers);
  };
  EXPECT_THAT(refusal(R"("quant_algo": "MIXED_PRECISION")"),
              HasSubstr("quantized_layers: missing"));
  EXPECT_THAT(mixed("null"), HasSubstr("quantized_layers: missing"));
  EXPECT_THAT(mixed("[]"), HasSubstr("quantized_layers"));
  EXPECT_THAT(mixed(R"({"a.b": {"quant_algo": "MXFP8"}})"),
              AllOf(HasSubstr("a.b"), HasSubstr("\"MXFP8\"")));
  EXPECT_THAT(mixed(R"({"a.b": {"quant_algo": "MIXED_PRECISION"}})"), HasSubstr("a.b"));
  EXPECT_THAT(mixed(R"({"a.b": {"quant_algo": "NVFP4", "group_size": 32}})"),
              AllOf(HasSubstr("a.b"), HasSubstr("found 32")));
  EXPECT_THAT(mixed(R"({"a.b": {"quant_algo": "NVFP4", "pre_quant_scale": true}})"),
              HasSubstr("a.b"));
  EXPECT_THAT(mixed(R"({"a.b": null})"), HasSubstr("a.b"));
  EXPECT_THAT(mixed(R"({"a.*": {"quant_algo": "FP8"}})"), HasSubstr("a.*"));
  EXPECT_THAT(mixed(R"({"model.a": {"quant_algo": "FP8"},
                        "model.language_model.a": {"quant_algo": "NVFP4"}})"),
              HasSubstr("model.language_model.a"));
}

}  // namespace
}  // namespace facet
