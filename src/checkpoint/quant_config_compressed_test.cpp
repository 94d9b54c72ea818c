#include <boost/json/serialize.hpp>
#include <fmt/core.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "checkpoint/json.h"
#include "checkpoint/quant_config.h"

namespace facet {
namespace {

using boost::json::object;
using testing::AllOf;
using testing::HasSubstr;

constexpr QuantScheme kNvfp4 = {WeightFormat::kNvfp4, 16, true};
constexpr QuantScheme kFp8 = {WeightFormat::kFp8, 0, false};
constexpr QuantScheme kInt4 = {WeightFormat::kInt4Group, 32, false};

const char* const kFp8Group = R"({"format": "float-quantized", "targets": ["Linear"],
  "weights": {"num_bits": 8, "type": "float", "strategy": "channel", "symmetric": true,
              "dynamic": false},
  "input_activations": {"num_bits": 8, "type": "float", "strategy": "token", "dynamic": true}})";
const char* const kNvfp4Group = R"({"format": "nvfp4-pack-quantized", "targets": ["Linear"],
  "weights": {"num_bits": 4, "type": "float", "strategy": "tensor_group", "group_size": 16},
  "input_activations": {"num_bits": 4, "type": "float", "dynamic": "local", "group_size": 16}})";
const char* const kInt4Group = R"({"format": "pack-quantized", "targets": ["Linear"],
  "weights": {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 32,
              "symmetric": true, "actorder": null},
  "input_activations": null})";

/// `text` with members replaced: {"weights": {"num_bits": 3}} reaches inside; null stays null.
object edited(const char* text, const char* changes = "{}") {
  object group = parse_json(text).as_object();
  const boost::json::value wanted = parse_json(changes);
  for (const auto& change : wanted.get_object()) {
    boost::json::value& old = group[change.key()];
    if (old.is_object() && change.value().is_object()) {
      for (const auto& inner : change.value().as_object()) {
        old.as_object()[inner.key()] = inner.value();
      }
    } else {
      old = change.value();
    }
  }
  return group;
}

object config_of(const std::vector<object>& groups, const char* ignore = "[]") {
  object config_groups;
  for (size_t i = 0; i < groups.size(); ++i) config_groups[fmt::format("group_{}", i)] = groups[i];
  return {{"quantization_config", object{{"quant_method", "compressed-tensors"},
                                         {"format", "mixed-precision"},
                                         {"config_groups", config_groups},
                                         {"ignore", parse_json(ignore)}}}};
}

QuantConfig parse(const std::vector<object>& groups, const char* ignore = "[]") {
  return QuantConfig::parse(config_of(groups, ignore), std::nullopt);
}

std::string refusal(const object& config,
                    const std::optional<object>& hf_quant_config = std::nullopt) {
  try {
    QuantConfig::parse(config, hf_quant_config);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kBadCheckpoint);
    return error.what();
  }
  ADD_FAILURE() << "accepted: " << boost::json::serialize(config);
  return {};
}

std::string group_refusal(const char* group, const char* changes) {
  return refusal(config_of({edited(group, changes)}));
}

TEST(QuantConfigCompressed, Fp8Strategies) {
  const auto scheme = [](const char* changes) {
    return parse({edited(kFp8Group, changes)}).scheme_of("a");
  };
  EXPECT_EQ(scheme("{}"), kFp8);
  EXPECT_EQ(scheme(R"({"weights": {"strategy": "tensor"}})"),
            (QuantScheme{WeightFormat::kFp8, 0, false, true}));
  EXPECT_EQ(scheme(R"({"input_activations": null})"), kFp8);
  EXPECT_EQ(scheme(R"({"input_activations": {"dynamic": false}})"),
            (QuantScheme{WeightFormat::kFp8, 0, true}));
  EXPECT_EQ(scheme(R"({"weights": {"strategy": "block", "block_structure": [128, 128]}})"),
            (QuantScheme{WeightFormat::kFp8Block, 0, false}));
}

TEST(QuantConfigCompressed, Nvfp4WithAndWithoutInputScale) {
  const auto scheme = [](const char* changes) {
    return parse({edited(kNvfp4Group, changes)}).scheme_of("a");
  };
  const QuantScheme weight_only = {WeightFormat::kNvfp4, 16, false};
  EXPECT_EQ(scheme("{}"), kNvfp4);
  EXPECT_EQ(scheme(R"({"input_activations": {"dynamic": false}})"), kNvfp4);
  EXPECT_EQ(scheme(R"({"input_activations": {"dynamic": true}})"), weight_only);
  EXPECT_EQ(scheme(R"({"input_activations": null})"), weight_only);
}

TEST(QuantConfigCompressed, Int4TakesAnyGroupOfWholeWords) {
  const auto scheme = [](const char* changes) {
    return parse({edited(kInt4Group, changes)}).scheme_of("a");
  };
  EXPECT_EQ(scheme("{}"), kInt4);
  EXPECT_EQ(scheme(R"({"weights": {"group_size": 8}})")->group_size, 8);
  EXPECT_EQ(scheme(R"({"weights": {"group_size": 128}})")->group_size, 128);
  EXPECT_EQ(scheme(R"({"weights": {"group_size": 24}})")->group_size, 24);
}

TEST(QuantConfigCompressed, RefusalsNameFieldAndValue) {
  const auto refuses = [](const char* group, const char* changes, const char* field,
                          const char* value) {
    EXPECT_THAT(group_refusal(group, changes),
                AllOf(HasSubstr("config.json: quantization_config"), HasSubstr("group_0"),
                      HasSubstr(fmt::format("field {}:", field)), HasSubstr(value)));
  };
  refuses(kFp8Group, R"({"format": "mxfp4-pack-quantized"})", "format", "mxfp4-pack-quantized");
  refuses(kFp8Group, R"({"format": "int-quantized"})", "format", "int-quantized");
  refuses(kFp8Group, R"({"format": "mixed-precision"})", "format", "missing");
  refuses(kFp8Group, R"({"format": null})", "format", "missing");
  refuses(kFp8Group, R"({"weights": null})", "weights", "missing");
  refuses(kFp8Group, R"({"weights": {"num_bits": 4}})", "num_bits", "found 4");
  refuses(kFp8Group, R"({"weights": {"num_bits": null}})", "num_bits", "found none");
  refuses(kFp8Group, R"({"weights": {"type": "int"}})", "type", "int");
  refuses(kFp8Group, R"({"weights": {"strategy": "group"}})", "strategy", "group");
  refuses(kFp8Group, R"({"weights": {"strategy": "block"}})", "block_structure", "128");
  refuses(kFp8Group, R"({"weights": {"strategy": "block", "block_structure": [64, 128]}})",
          "block_structure", "128");
  refuses(kFp8Group, R"({"weights": {"symmetric": false}})", "symmetric", "false");
  refuses(kFp8Group, R"({"weights": {"dynamic": true}})", "dynamic", "true");
  refuses(kFp8Group, R"({"input_activations": {"num_bits": 4}})", "num_bits", "found 4");
  refuses(kFp8Group, R"({"input_activations": {"dynamic": "local"}})", "dynamic", "local");
  refuses(kFp8Group, R"({"output_activations": {"num_bits": 8}})", "output_activations",
          "num_bits");
  refuses(kFp8Group, R"({"targets": []})", "targets", "none");
  refuses(kFp8Group, R"({"targets": null})", "targets", "none");
  refuses(kFp8Group, R"({"targets": "Linear"})", "targets", "Linear");
  refuses(kNvfp4Group, R"({"weights": {"group_size": 32}})", "group_size", "found 32");
  refuses(kNvfp4Group, R"({"weights": {"strategy": "group"}})", "strategy", "group");
  refuses(kNvfp4Group, R"({"input_activations": {"dynamic": "global"}})", "dynamic", "global");
  refuses(kNvfp4Group, R"({"input_activations": {"dynamic": 1}})", "dynamic", "1");
  refuses(kNvfp4Group, R"({"input_activations": {"num_bits": 8}})", "num_bits", "found 8");
  refuses(kInt4Group, R"({"weights": {"num_bits": 8}})", "num_bits", "found 8");
  refuses(kInt4Group, R"({"weights": {"type": "float"}})", "type", "float");
  refuses(kInt4Group, R"({"weights": {"symmetric": false}})", "symmetric", "false");
  refuses(kInt4Group, R"({"weights": {"actorder": "weight"}})", "actorder", "weight");
  refuses(kInt4Group, R"({"weights": {"strategy": "channel"}})", "strategy", "channel");
  refuses(kInt4Group, R"({"weights": {"group_size": 12}})", "group_size", "found 12");
  refuses(kInt4Group, R"({"weights": {"group_size": -32}})", "group_size", "found -32");
  refuses(kInt4Group, R"({"weights": {"group_size": 4294967328}})", "group_size", "4294967328");
  refuses(kInt4Group, R"({"weights": {"group_size": null}})", "group_size", "found 0");
  refuses(kInt4Group, R"({"input_activations": {"num_bits": 8}})", "input_activations", "num_bits");
}

TEST(QuantConfigCompressed, RefusalsOfTheWholeFile) {
  const auto with = [](const char* changes) {
    object config = config_of({edited(kFp8Group)});
    object& quant = config["quantization_config"].as_object();
    const boost::json::value wanted = parse_json(changes);
    for (const auto& change : wanted.get_object()) quant[change.key()] = change.value();
    return refusal(config);
  };
  EXPECT_THAT(with(R"({"ignore": ["re:a("]})"),
              AllOf(HasSubstr("field ignore"), HasSubstr("re:a(")));
  EXPECT_THAT(with(R"({"ignore": ["Linear"]})"), HasSubstr("field ignore"));
  EXPECT_THAT(with(R"({"ignore": [1]})"), HasSubstr("field ignore"));
  EXPECT_THAT(with(R"({"kv_cache_scheme": {"num_bits": 4, "type": "float"}})"),
              HasSubstr("field kv_cache_scheme"));
  EXPECT_THAT(with(R"({"sparsity_config": {"format": "sparse-24-bitmask"}})"),
              HasSubstr("sparse-24-bitmask"));
  EXPECT_THAT(with(R"({"transform_config": {"config_groups": {"R1": {}}}})"),
              HasSubstr("transform_config"));
  EXPECT_THAT(with(R"({"config_groups": {"W4A16": ["Linear"]}})"), HasSubstr("field W4A16"));
  EXPECT_THAT(with(R"({"config_groups": {"g": null}})"), HasSubstr("field g"));
  EXPECT_THAT(group_refusal(kFp8Group, R"({"targets": ["re:[a"]})"),
              AllOf(HasSubstr("group_0"), HasSubstr("field targets"), HasSubstr("re:[a")));
}

TEST(QuantConfigCompressed, TheFilesFormatServesGroupsWithoutOne) {
  object config = config_of({edited(kInt4Group, R"({"format": null})")});
  config["quantization_config"].as_object()["format"] = "pack-quantized";
  const QuantConfig quant = QuantConfig::parse(config, std::nullopt);
  EXPECT_EQ(quant.scheme_of("a"), kInt4);
  EXPECT_EQ(quant.describe(), "compressed-tensors pack-quantized");
  config["quantization_config"].as_object()["format"] = "marlin-24";
  EXPECT_THAT(refusal(config), AllOf(HasSubstr("field format"), HasSubstr("marlin-24")));
  config["quantization_config"].as_object().erase("format");
  EXPECT_THAT(refusal(config), HasSubstr("field format: found \"none\""));
}

TEST(QuantConfigCompressed, NoGroupsMeansPlain) {
  object config = config_of({});
  EXPECT_FALSE(QuantConfig::parse(config, std::nullopt).quantized());
  config["quantization_config"].as_object()["kv_cache_scheme"] =
      object{{"num_bits", 8}, {"type", "float"}, {"dynamic", false}, {"strategy", "tensor"}};
  EXPECT_TRUE(QuantConfig::parse(config, std::nullopt).kv_fp8());
}

TEST(QuantConfigCompressed, AModeloptFileBesideItIsAContradiction) {
  const object config = config_of({edited(kFp8Group)});
  const object nvfp4 = parse_json(R"({"quantization": {"quant_algo": "NVFP4"}})").as_object();
  EXPECT_THAT(refusal(config, nvfp4), AllOf(HasSubstr("config.json"),
                                            HasSubstr("hf_quant_config.json"), HasSubstr("NVFP4")));
  const object none = parse_json(R"({"quantization": {"quant_algo": null}})").as_object();
  EXPECT_TRUE(QuantConfig::parse(config, none).quantized());
}

TEST(QuantConfigCompressed, TheMoreSpecificTargetWinsInAnyOrder) {
  const object every = edited(kInt4Group);
  const object by_regex = edited(kFp8Group, R"({"targets": ["re:.*self_attn\\..*"]})");
  const object by_name = edited(kNvfp4Group, R"({"targets": ["model.layers.1.self_attn.o_proj"]})");
  std::vector<object> groups = {every, by_regex, by_name};
  const std::vector<std::vector<size_t>> orders = {{0, 1, 2}, {2, 1, 0}, {1, 0, 2}};
  for (const std::vector<size_t>& order : orders) {
    const QuantConfig quant = parse({groups[order[0]], groups[order[1]], groups[order[2]]});
    for (const int32_t round : {0, 1}) {  // the second answer comes from memory
      EXPECT_EQ(quant.scheme_of("model.layers.1.mlp.up_proj"), kInt4) << round;
      EXPECT_EQ(quant.scheme_of("model.layers.1.self_attn.q_proj"), kFp8) << round;
      EXPECT_EQ(quant.scheme_of("model.layers.1.self_attn.o_proj"), kNvfp4) << round;
      EXPECT_EQ(quant.scheme_of("model.language_model.layers.1.self_attn.o_proj"), kNvfp4);
      EXPECT_EQ(quant.scheme_of("model.layers.11.self_attn.o_proj"), kFp8) << round;
    }
  }
}

TEST(QuantConfigCompressed, AmongExpressionsTheFirstOfTheFileWins) {
  const object first = edited(kFp8Group, R"({"targets": ["re:.*proj$"]})");
  const object second = edited(kNvfp4Group, R"({"targets": ["re:.*up_proj$", "re:other"]})");
  EXPECT_EQ(parse({first, second}).scheme_of("a.up_proj"), kFp8);
  EXPECT_EQ(parse({second, first}).scheme_of("a.up_proj"), kNvfp4);
  EXPECT_EQ(parse({second, first}).scheme_of("a.gate_proj"), kFp8);
  EXPECT_EQ(parse({second, first}).scheme_of("nothing"), std::nullopt);
}

TEST(QuantConfigCompressed, TheSameTargetWithTwoSchemesIsRefused) {
  EXPECT_THAT(refusal(config_of({edited(kFp8Group), edited(kNvfp4Group)})),
              AllOf(HasSubstr("group_1"), HasSubstr("\"Linear\"")));
  EXPECT_THAT(
      refusal(config_of({edited(kFp8Group, R"({"targets": ["model.a"]})"),
                         edited(kInt4Group, R"({"targets": ["model.language_model.a"]})")})),
      AllOf(HasSubstr("group_1"), HasSubstr("model.language_model.a")));
  EXPECT_EQ(parse({edited(kFp8Group), edited(kFp8Group)}).scheme_of("a"), kFp8);
}

TEST(QuantConfigCompressed, IgnoreWinsOverEveryTarget) {
  const object named = edited(kFp8Group, R"({"targets": ["Linear", "lm_head", "re:.*router.*"]})");
  const QuantConfig quant = parse({named}, R"(["lm_head", "model.layers.1.mlp", "re:.*router"])");
  EXPECT_EQ(quant.scheme_of("lm_head"), std::nullopt);
  EXPECT_EQ(quant.scheme_of("model.layers.0.router.proj"), std::nullopt);
  EXPECT_EQ(quant.scheme_of("model.language_model.layers.1.mlp"), std::nullopt);
  EXPECT_EQ(quant.scheme_of("model.layers.1.mlp.up_proj"), kFp8);  // exact names only
  EXPECT_EQ(quant.scheme_of("xlm_head"), kFp8);
}

TEST(QuantConfigCompressed, ExpressionsStartAtTheNameAsWritten) {
  const QuantConfig quant = parse({edited(kFp8Group, R"({"targets": ["re:model\\.layers"]})")});
  EXPECT_EQ(quant.scheme_of("model.layers.0.x"), kFp8);
  EXPECT_EQ(quant.scheme_of("x.model.layers.0"), std::nullopt);
  // Not tried on aliases: `^(?!model\.language_model)` would hold for one of them.
  EXPECT_EQ(quant.scheme_of("model.language_model.layers.0.x"), std::nullopt);
  EXPECT_THROW(static_cast<void>(quant.scheme_of(std::string(600, 'm'))), Error);
}

}  // namespace
}  // namespace facet
