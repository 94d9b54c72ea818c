// `verify`: honest backends pass on every format, each planted fault is found where it is, and
// nowhere else.

#include <boost/json/parse.hpp>
#include <filesystem>
#include <fmt/core.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <ostream>
#include <string>
#include <vector>

#include "tests/checkpoint_editor.h"
#include "tests/e2e/process.h"
#include "tests/support.h"

namespace facet {
namespace {

namespace fs = std::filesystem;
using test::Finished;
using test::golden;
using test::kUsage;
using test::run_facet;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr int kDiffers = 70;

std::vector<std::string> fault_places(const boost::json::value& answer) {
  std::vector<std::string> places;
  for (const auto& fault : answer.at("faults").as_array()) {
    places.emplace_back(fault.at("where").as_string());
  }
  return places;
}

boost::json::value verify_json(std::vector<std::string> arguments, int exit_code) {
  arguments.insert(arguments.begin(), "verify");
  arguments.emplace_back("--json");
  const Finished run = run_facet(arguments);
  EXPECT_EQ(run.exit_code, exit_code) << run.err;
  return boost::json::parse(run.out);
}

void expect_refusal(const std::vector<std::string>& arguments,
                    const std::vector<std::string>& words) {
  std::vector<std::string> all = {"verify"};
  all.insert(all.end(), arguments.begin(), arguments.end());
  const Finished run = run_facet(all);
  EXPECT_EQ(run.exit_code, kUsage) << run.err;
  EXPECT_EQ(run.out, "");
  for (const std::string& word : words) EXPECT_THAT(run.err, HasSubstr(word));
}

TEST(Verify, EveryGoldenAgrees) {
  int32_t count = 0;
  for (const auto& entry : fs::directory_iterator(test::data_path("goldens"))) {
    SCOPED_TRACE(entry.path());
    // 20 ids and chunks of 7: several prefill steps, and the window of 16 passed from both starts.
    const auto answer = verify_json({entry.path(), "--tokens", "20", "--prefill-chunk", "7"}, 0);
    EXPECT_EQ(answer.at("verdict"), "agrees");
    EXPECT_EQ(answer.at("tolerance").at("relative_l2"), 1e-5);
    EXPECT_THAT(fault_places(answer), IsEmpty());
    EXPECT_EQ(answer.at("free").at("rows"), 20);
    EXPECT_EQ(answer.at("free").at("same_best"), 20);
    for (const auto& layer : answer.at("layers").as_array()) {
      const auto* experts = layer.as_object().if_contains("experts");
      if (experts != nullptr) EXPECT_EQ(experts->at("rows"), 40);
    }
    ++count;
  }
  EXPECT_GT(count, 8);
}

TEST(Verify, NarrowCachesAgreeWithinTheirTolerance) {
  for (const char* dtype : {"bf16", "fp8"}) {
    const auto answer =
        verify_json({golden("moe-nvfp4-modelopt-all"), "--kv-dtype", dtype, "--tokens", "20"}, 0);
    EXPECT_EQ(answer.at("tolerance").at("relative_l2"), 1e-2) << dtype;
  }
}

struct Planted {
  const char* plant;
  const char* model;
  std::vector<std::string> places;  ///< every fault that verify finds
};

/// For the names of the tests: without it they would hold addresses.
void PrintTo(const Planted& planted, std::ostream* out) { *out << planted.plant; }

class VerifyPlant : public testing::TestWithParam<Planted> {};

TEST_P(VerifyPlant, IsFoundWhereItIs) {
  const Planted& planted = GetParam();
  const auto answer = verify_json({golden(planted.model), "--plant", planted.plant}, kDiffers);
  EXPECT_EQ(answer.at("verdict"), "differs");
  EXPECT_EQ(fault_places(answer), planted.places);
}

// Of the three layers of most goldens.
const std::vector<std::string> kMiddle = {"layer 1 feed-forward"};
const std::vector<std::string> kEvery = {"layer 0 feed-forward", "layer 1 feed-forward",
                                         "layer 2 feed-forward"};

INSTANTIATE_TEST_SUITE_P(
    Faults,
    VerifyPlant,
    testing::Values(Planted{"swap-gate-up", "moe-nvfp4-modelopt", kMiddle},
                    Planted{"swap-gate-up", "dense-int4-g32", kMiddle},
                    Planted{"drop-layer-scalar", "moe-bf16-fused", kMiddle},
                    Planted{
                        "drop-layer-scalar", "dense-ple-kvshared-bf16", {"layer 3 feed-forward"}},
                    Planted{"window-off-by-one", "moe-fp8-dynamic", {"layer 1 attention"}},
                    Planted{"window-off-by-one", "dense-ple-kvshared-bf16", {"layer 1 attention"}},
                    Planted{"neighbour-expert", "moe-nvfp4-compressed-tensors", kMiddle},
                    Planted{"neighbour-expert", "moe-bf16-fused", kMiddle},
                    Planted{"erf-gelu", "moe-nvfp4-modelopt", kEvery},
                    Planted{"erf-gelu", "dense-nvfp4-mlp", kEvery}),
    [](const auto& info) {
      std::string name = fmt::format("{}_{}", info.param.plant, info.param.model);
      for (char& c : name) c = c == '-' ? '_' : c;
      return name;
    });

/// The NVFP4 golden with the gates' and ups' global scales of every expert made equal, except that
/// expert e of layer 2 gets `ratio(e)` times its up's as its gate's.
template <typename Ratio>
std::string with_scales(const test::TempDir& dir, const Ratio& ratio) {
  test::CheckpointEditor editor(golden("moe-nvfp4-modelopt"));
  for (const auto& [name, tensor] : editor.tensors()) {
    constexpr std::string_view kUp = ".up_proj.weight_scale_2";
    if (!name.ends_with(kUp)) continue;
    const std::string expert = name.substr(0, name.size() - kUp.size());
    const float up = editor.scalar_f32(name);
    const bool chosen = expert.find("layers.2.") != std::string::npos;
    const int index = std::stoi(expert.substr(expert.rfind('.') + 1));
    editor.set_scalar_f32(expert + ".gate_proj.weight_scale_2", up * (chosen ? ratio(index) : 1));
  }
  editor.save(dir.path("model"));
  return dir.path("model");
}

TEST(Verify, GateScaleForUpIsFoundWhereScalesDiffer) {
  const test::TempDir dir;
  const std::string model =
      with_scales(dir, [](int expert) { return expert % 2 == 0 ? 1.0F : 2.0F; });
  verify_json({model}, 0);
  const auto answer = verify_json({model, "--plant", "gate-scale-for-up"}, kDiffers);
  EXPECT_THAT(fault_places(answer), ElementsAre("layer 2 feed-forward"));
}

TEST(Verify, APlantThatChangesNothingIsRefused) {
  const test::TempDir dir;
  expect_refusal({with_scales(dir, [](int) { return 1.0F; }), "--plant", "gate-scale-for-up"},
                 {"this checkpoint has equal gate and up scales: the plant changes nothing"});
  expect_refusal({with_scales(dir, [](int) { return 2.0F; }), "--plant", "gate-scale-for-up"},
                 {"one ratio", "the plant changes nothing"});
  expect_refusal({golden("dense-nvfp4-mlp"), "--plant", "gate-scale-for-up"},
                 {"no experts with NVFP4", "the plant changes nothing"});
  expect_refusal({golden("dense-int4-g32"), "--plant", "neighbour-expert"},
                 {"no experts", "the plant changes nothing"});
  expect_refusal({"fable", "--plant", "drop-layer-scalar"},
                 {"every layer_scalar", "the plant changes nothing"});
  expect_refusal({golden("dense-int4-g32"), "--plant", "window-off-by-one", "--context", "0"},
                 {"position 7", "the plant changes nothing"});
}

TEST(Verify, TheTableNamesTheFaultAndTheVerdict) {
  const Finished good =
      run_facet({"verify", "fable", "--text", "Once upon a time", "--context", "0"});
  EXPECT_EQ(good.exit_code, 0) << good.err;
  EXPECT_THAT(good.out, HasSubstr("layer 5"));
  EXPECT_THAT(good.out, HasSubstr("agrees with ref"));
  const Finished bad = run_facet(
      {"verify", golden("moe-bf16-fused"), "--ids", "2,5,9", "--plant", "neighbour-expert"});
  EXPECT_EQ(bad.exit_code, kDiffers);
  EXPECT_THAT(bad.out, HasSubstr("fault: layer 1 feed-forward: relative L2"));
  EXPECT_THAT(bad.out, HasSubstr("differs from ref"));
  EXPECT_THAT(bad.err, HasSubstr("verify: cpu"));
  EXPECT_THAT(bad.err, HasSubstr("first in layer 1 feed-forward"));
}

/// A weight that is no number makes the reference's stream none either; that must not pass for
/// agreement.
TEST(Verify, NaNsDoNotAgree) {
  const test::TempDir dir;
  test::CheckpointEditor editor(golden("moe-bf16-fused"));
  std::string& matrix =
      editor.tensor("model.language_model.layers.1.self_attn.o_proj.weight").bytes;
  matrix[0] = '\xc0';
  matrix[1] = '\x7f';
  editor.save(dir.path("model"));
  const auto answer = verify_json({dir.path("model")}, kDiffers);
  EXPECT_EQ(fault_places(answer).front(), "layer 1 attention");
  EXPECT_TRUE(answer.at("layers").at(1).at("attention").at("relative_l2").is_null());
}

TEST(Verify, BadUsageIsRefusedWithOneLine) {
  const std::string model = golden("dense-int4-g32");
  expect_refusal({model, "--backend", "ref"}, {"--backend ref", "against itself"});
  expect_refusal({model, "--plant", "gremlin"}, {"gremlin", "erf-gelu"});
  expect_refusal({model, "--ids", "2,320"}, {"320", "0 to 319"});
  expect_refusal({model, "--ids", "2", "--tokens", "3"}, {"--ids", "--tokens"});
  expect_refusal({model, "--context", "4096"}, {"--context 4096", "4088"});
  expect_refusal({model, "--tokens", "5000"}, {"5000", "4096"});
}

}  // namespace
}  // namespace facet
