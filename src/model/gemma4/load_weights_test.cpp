// Loading through the expert-parameter mapping, on reference checkpoints and on rewritten copies of
// them.

#include <cstring>
#include <filesystem>
#include <fmt/core.h>
#include <functional>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "model/gemma4/weights.h"
#include "tests/checkpoint_editor.h"
#include "tests/support.h"

namespace facet::gemma4 {
namespace {

using testing::HasSubstr;
using testing::Not;

constexpr const char* kText = "model.language_model.";

struct Loaded {
  explicit Loaded(const std::string& folder)
      : checkpoint(folder),
        config(Gemma4Config::parse(checkpoint.config())),
        weights(load_weights(checkpoint,
                             config,
                             QuantConfig::parse(checkpoint.config(), checkpoint.hf_quant_config()),
                             *find_activation(config.hidden_activation))) {}

  Checkpoint checkpoint;
  Gemma4Config config;
  Weights weights;
};

std::vector<float> values(const WeightMatrix& matrix) {
  std::vector<float> all(static_cast<size_t>(matrix.rows * matrix.cols));
  for (int64_t row = 0; row < matrix.rows; ++row) {
    dequantize_row(matrix, row,
                   std::span(all).subspan(static_cast<size_t>(row * matrix.cols),
                                          static_cast<size_t>(matrix.cols)));
  }
  return all;
}

/// A golden, rewritten by `edit` into a folder of its own.
class Rewritten {
 public:
  Rewritten(const std::string& golden,
            const std::function<void(test::CheckpointEditor&)>& edit,
            int32_t shards = 1) {
    test::CheckpointEditor editor(test::data_path("goldens/" + golden));
    edit(editor);
    editor.save(dir_.path("model"), shards);
  }
  Loaded load() const { return Loaded(dir_.path("model")); }
  /// The message of the refusal; fails the test if the load succeeds.
  std::string refusal() const {
    try {
      load();
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kBadCheckpoint);
      return error.what();
    }
    ADD_FAILURE() << "the load was not refused";
    return {};
  }

 private:
  test::TempDir dir_;
};

void expect_same_weights(const Weights& a, const Weights& b) {
  ASSERT_EQ(a.layers.size(), b.layers.size());
  for (size_t l = 0; l < a.layers.size(); ++l) {
    const auto& x = a.layers[l].experts.experts;
    const auto& y = b.layers[l].experts.experts;
    ASSERT_EQ(x.size(), y.size());
    for (size_t e = 0; e < x.size(); ++e) {
      ASSERT_EQ(values(x[e].gate), values(y[e].gate)) << "layer " << l << " expert " << e;
      ASSERT_EQ(values(x[e].up), values(y[e].up)) << "layer " << l << " expert " << e;
      ASSERT_EQ(values(x[e].down), values(y[e].down)) << "layer " << l << " expert " << e;
    }
    EXPECT_EQ(values(a.layers[l].self_attn.q_proj), values(b.layers[l].self_attn.q_proj));
    EXPECT_EQ(values(a.layers[l].mlp.down_proj), values(b.layers[l].mlp.down_proj));
  }
}

/// Splits the fused experts of every layer into per-expert Linears, as some exporters do.
void split_experts(test::CheckpointEditor& editor, const Gemma4Config& config) {
  const auto h = config.hidden_size;
  const auto f = config.moe_intermediate_size;
  for (int32_t l = 0; l < config.num_hidden_layers; ++l) {
    const std::string base = fmt::format("{}layers.{}.experts.", kText, l);
    const std::string gate_up = editor.tensors().at(base + "gate_up_proj").bytes;
    const std::string down = editor.tensors().at(base + "down_proj").bytes;
    editor.erase(base + "gate_up_proj");
    editor.erase(base + "down_proj");
    const auto half = static_cast<size_t>(f * h) * 2;  // bytes of one [F, H] BF16 matrix
    for (int32_t e = 0; e < config.num_experts; ++e) {
      const size_t at = static_cast<size_t>(e) * half;
      const auto put = [&](const char* name, Shape shape, std::string bytes) {
        editor.tensors()[fmt::format("{}{}.{}.weight", base, e, name)] = {DType::kBF16, shape,
                                                                          std::move(bytes)};
      };
      put("gate_proj", {f, h}, gate_up.substr(2 * at, half));
      put("up_proj", {f, h}, gate_up.substr(2 * at + half, half));
      put("down_proj", {h, f}, down.substr(at, half));
    }
  }
}

TEST(LoadWeights, EveryGoldenLoads) {
  for (const char* golden :
       {"moe-bf16-fused", "moe-nvfp4-modelopt", "moe-nvfp4-modelopt-all",
        "moe-nvfp4-compressed-tensors", "moe-fp8-dynamic", "moe-mixed-fp8-nvfp4", "dense-int4-g32",
        "dense-ple-kvshared-bf16", "dense-nvfp4-mlp"}) {
    SCOPED_TRACE(golden);
    const Loaded loaded(test::data_path(std::string("goldens/") + golden));
    EXPECT_FALSE(loaded.weights.embed_tokens.empty());
    for (const LayerWeights& layer : loaded.weights.layers)
      EXPECT_FALSE(layer.mlp.down_proj.empty());
  }
}

TEST(LoadWeights, EverySharedGoldenLoads) {
  FACET_REQUIRE_SHARED(folder, "goldens");
  int32_t loaded = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (!entry.is_directory()) continue;
    SCOPED_TRACE(entry.path());
    const Loaded golden(entry.path());
    EXPECT_GT(golden.weights.text_tensors, 0);
    ++loaded;
  }
  EXPECT_GE(loaded, 13);
}

TEST(LoadWeights, VisionIsSkippedForText) {
  const Loaded loaded(test::data_path("goldens/moe-nvfp4-modelopt"));
  EXPECT_GT(loaded.weights.skipped_vision_tensors, 0);
}

TEST(LoadWeights, FusedAndPerExpertBf16AreTheSame) {
  const Loaded fused(test::data_path("goldens/moe-bf16-fused"));
  const Rewritten split("moe-bf16-fused",
                        [&](test::CheckpointEditor& e) { split_experts(e, fused.config); });
  const Loaded loaded = split.load();
  expect_same_weights(fused.weights, loaded.weights);
}

TEST(LoadWeights, FusedAndPerExpertTogetherAreRefused) {
  const Loaded fused(test::data_path("goldens/moe-bf16-fused"));
  const Rewritten both("moe-bf16-fused", [&](test::CheckpointEditor& e) {
    const auto original = e.tensors();
    split_experts(e, fused.config);
    for (const auto& [name, tensor] : original) e.tensors()[name] = tensor;
  });
  EXPECT_THAT(both.refusal(), HasSubstr("layers.0.experts: holds both fused and per-expert"));
}

TEST(LoadWeights, ShuffledShardsAndTheMoePrefixChangeNothing) {
  const Loaded plain(test::data_path("goldens/moe-nvfp4-modelopt"));
  const Rewritten moved(
      "moe-nvfp4-modelopt",
      [](test::CheckpointEditor& e) {
        const auto original = e.tensors();
        for (const auto& [name, tensor] : original) {
          const size_t at = name.find(".experts.");
          if (at == std::string::npos) continue;
          std::string moe = name;
          moe.replace(at, 9, ".moe.experts.");
          e.rename(name, moe);
        }
      },
      3);
  const Loaded loaded = moved.load();
  expect_same_weights(plain.weights, loaded.weights);
}

TEST(LoadWeights, Expert1Is11Nor111) {
  FACET_REQUIRE_SHARED(golden, "goldens/moe-nvfp4-modelopt-128");
  const Loaded loaded(golden);
  const auto& experts = loaded.weights.layers[0].experts.experts;
  ASSERT_EQ(experts.size(), 128u);
  for (const int32_t e : {1, 11, 111}) {
    const StoredTensor* stored =
        loaded.checkpoint.find(fmt::format("{}layers.0.moe.experts.{}.up_proj.weight", kText, e));
    ASSERT_NE(stored, nullptr);
    EXPECT_EQ(experts[static_cast<size_t>(e)].up.data, stored->bytes.data()) << e;
  }
}

TEST(LoadWeights, GateAndUpKeepTheirOwnScales) {
  const std::string up = std::string(kText) + "layers.1.experts.2.up_proj.weight_scale_2";
  const Loaded plain(test::data_path("goldens/moe-nvfp4-modelopt"));
  const Rewritten doubled("moe-nvfp4-modelopt", [&](test::CheckpointEditor& e) {
    e.set_scalar_f32(up, 2.0F * e.scalar_f32(up));
  });
  const Loaded loaded = doubled.load();
  const ExpertMatrices& was = plain.weights.layers[1].experts.experts[2];
  const ExpertMatrices& is = loaded.weights.layers[1].experts.experts[2];
  EXPECT_EQ(is.up.global_scale, 2.0F * was.up.global_scale);
  EXPECT_EQ(values(is.gate), values(was.gate));
  std::vector<float> twice = values(was.up);
  for (float& value : twice) value *= 2.0F;
  EXPECT_EQ(values(is.up), twice);
}

TEST(LoadWeights, KEqualsVWithQuantisedKProj) {
  for (const char* golden :
       {"moe-nvfp4-modelopt-all", "moe-fp8-dynamic", "moe-nvfp4-compressed-tensors"}) {
    const Loaded loaded(test::data_path(std::string("goldens/") + golden));
    const AttentionWeights& full = loaded.weights.layers[2].self_attn;
    EXPECT_NE(full.k_proj.format, WeightFormat::kBF16) << golden;
    EXPECT_EQ(values(full.v_proj), values(full.k_proj)) << golden;
    const AttentionWeights& sliding = loaded.weights.layers[0].self_attn;
    EXPECT_NE(sliding.v_proj.data, sliding.k_proj.data) << golden;
  }
}

TEST(LoadWeights, KvScalesOfBothDialectsAndTheirAbsence) {
  const Loaded modelopt(test::data_path("goldens/moe-nvfp4-modelopt-all"));
  EXPECT_FLOAT_EQ(modelopt.weights.layers[1].self_attn.k_scale, 0.013F);
  EXPECT_FLOAT_EQ(modelopt.weights.layers[1].self_attn.v_scale, 0.025F);
  EXPECT_EQ(modelopt.weights.layers_with_kv_scales, 3);
  const Loaded compressed(test::data_path("goldens/moe-mixed-fp8-nvfp4"));
  EXPECT_NEAR(compressed.weights.layers[2].self_attn.k_scale, 0.016F, 1e-4F);  // stored in BF16
  const Loaded without(test::data_path("goldens/moe-nvfp4-modelopt"));
  EXPECT_EQ(without.weights.layers[0].self_attn.k_scale, 1.0F);
  EXPECT_EQ(without.weights.layers_with_kv_scales, 0);
}

TEST(LoadWeights, OneKvScaleServesForBoth) {
  const Rewritten only_k("moe-nvfp4-modelopt-all", [](test::CheckpointEditor& e) {
    e.erase(std::string(kText) + "layers.0.self_attn.v_proj.v_scale");
  });
  testing::internal::CaptureStderr();
  const Loaded loaded = only_k.load();
  EXPECT_THAT(testing::internal::GetCapturedStderr(),
              HasSubstr("layers.0.self_attn.v_proj.v_scale is missing"));
  EXPECT_EQ(loaded.weights.layers[0].self_attn.v_scale, loaded.weights.layers[0].self_attn.k_scale);
}

TEST(LoadWeights, ReportsEveryFaultAtOnce) {
  const std::string at = std::string(kText) + "layers.0.";
  const Rewritten broken("moe-nvfp4-modelopt", [&](test::CheckpointEditor& e) {
    e.erase(at + "experts.1.gate_proj.weight_scale");
    e.erase(at + "experts.3.down_proj.weight_scale_2");
    e.erase(at + "input_layernorm.weight");
    e.tensors()[at + "self_attn.q_proj.bias"] = {DType::kBF16, Shape{2}, std::string(4, '\0')};
    e.tensors()["model.unheard_of"] = {DType::kBF16, Shape{1}, std::string(2, '\0')};
    e.tensors()["stray"] = {DType::kBF16, Shape{1}, std::string(2, '\0')};
    e.tensors().at(at + "layer_scalar").dtype = DType::kI16;
    e.tensors().at(at + "router.scale").shape = Shape{56, 2};
    e.set_scalar_f32(at + "experts.4.up_proj.weight_scale_2", 0.0F);
    e.set_scalar_f32(at + "experts.5.up_proj.weight_scale_2", std::nanf(""));
    e.tensors().at(at + "experts.6.up_proj.weight_scale").bytes[7] = '\x7f';
  });
  const std::string report = broken.refusal();
  for (const char* name :
       {"experts.1.gate_proj.weight_scale", "experts.3.down_proj.weight_scale_2",
        "input_layernorm.weight", "self_attn.q_proj.bias", "model.unheard_of", "stray",
        "layer_scalar", "router.scale", "experts.4.up_proj.weight_scale_2",
        "experts.5.up_proj.weight_scale_2", "experts.6.up_proj.weight_scale"}) {
    EXPECT_THAT(report, HasSubstr(name));
  }
  EXPECT_THAT(report, HasSubstr("11 faults"));
  EXPECT_THAT(report, Not(HasSubstr("layers.1.")));
}

TEST(LoadWeights, AMissingLayerNamesItsExpertsOnce) {
  const Rewritten broken("moe-nvfp4-modelopt", [](test::CheckpointEditor& e) {
    const auto original = e.tensors();
    for (const auto& [name, tensor] : original) {
      if (name.find("layers.1.experts.") != std::string::npos) e.erase(name);
    }
  });
  const std::string report = broken.refusal();
  EXPECT_THAT(report, HasSubstr("layers.1.experts"));
  EXPECT_THAT(report, HasSubstr("1 fault"));
}

TEST(LoadWeights, TextOnlyClassUnderBothPrefixes) {
  const Loaded plain(test::data_path("goldens/moe-bf16-fused"));
  for (const char* prefix : {"model.", "language_model.model.", "model.language_model."}) {
    SCOPED_TRACE(prefix);
    const Rewritten text("moe-bf16-fused", [&](test::CheckpointEditor& e) {
      e.config()["architectures"] = {"Gemma4ForCausalLM"};
      boost::json::object root = e.config()["text_config"].as_object();
      root["architectures"] = {"Gemma4ForCausalLM"};
      e.config() = std::move(root);
      const auto original = e.tensors();
      for (const auto& [name, tensor] : original) {
        const std::string moved = prefix + name.substr(std::strlen(kText));
        if (moved != name) e.rename(name, moved);
      }
    });
    const Loaded loaded = text.load();
    expect_same_weights(plain.weights, loaded.weights);
  }
}

TEST(LoadWeights, QuantisationConfigAndFileMustAgree) {
  const Rewritten denied("moe-nvfp4-modelopt", [](test::CheckpointEditor& e) {
    e.config()["quantization_config"].as_object()["ignore"].as_array().emplace_back(
        "model.language_model.layers.0.experts.3.*");
    e.hf_quant().reset();
  });
  EXPECT_THAT(denied.refusal(), HasSubstr("layers.0.experts.3."));
}

TEST(LoadWeights, RedundantKvTensorsOfSharedLayersAreIgnored) {
  const Loaded loaded(test::data_path("goldens/dense-ple-kvshared-bf16"));
  EXPECT_EQ(loaded.weights.ignored_shared_kv_tensors, 9);
  EXPECT_TRUE(loaded.weights.layers[5].self_attn.k_proj.empty());
}

}  // namespace
}  // namespace facet::gemma4
