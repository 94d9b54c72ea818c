// --cpu-weights: lossy copies of plain weights, and the file that keeps them.

#include <boost/json/parse.hpp>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "checkpoint/safetensors.h"
#include "tests/checkpoint_editor.h"
#include "tests/e2e/process.h"
#include "tests/support.h"

namespace facet {
namespace {

using test::Finished;
using test::golden;
using test::kBadCheckpoint;
using test::kUsage;
using test::run_facet;
using testing::HasSubstr;
using testing::Not;

class CliWeights : public testing::Test {
 protected:
  /// The logits of a few tokens; `flags` go to the command.
  std::vector<float> logits(const std::string& model, const std::vector<std::string>& flags) {
    std::vector<std::string> all = {"logits",           model,   "--ids",
                                    "2,17,90,200,31,8", "--out", dir_.path("out.safetensors")};
    all.insert(all.end(), flags.begin(), flags.end());
    last_ = run_facet(all);
    EXPECT_EQ(last_.exit_code, 0) << last_.err;
    if (last_.exit_code != 0) return {};
    const SafetensorsFile file(dir_.path("out.safetensors"));
    const auto bytes = file.find("logits")->bytes;
    std::vector<float> values(bytes.size() / sizeof(float));
    std::memcpy(values.data(), bytes.data(), bytes.size());
    return values;
  }

  /// |a - b| / |b|.
  static double distance(const std::vector<float>& a, const std::vector<float>& b) {
    double difference = 0;
    double size = 0;
    for (size_t i = 0; i < b.size(); ++i) {
      difference += std::pow(static_cast<double>(a.at(i)) - static_cast<double>(b[i]), 2);
      size += std::pow(static_cast<double>(b[i]), 2);
    }
    return std::sqrt(difference / size);
  }

  test::TempDir dir_;
  Finished last_;
};

TEST_F(CliWeights, LossGrowsAsBitsShrink) {
  for (const char* name : {"moe-bf16-fused", "dense-ple-kvshared-bf16", "moe-nvfp4-modelopt"}) {
    const std::vector<float> exact = logits(golden(name), {});
    EXPECT_THAT(last_.err, Not(HasSubstr("cpu weights")));
    const double int8 = distance(logits(golden(name), {"--cpu-weights", "int8"}), exact);
    EXPECT_THAT(last_.err, HasSubstr("as INT8"));
    const double nvfp4 = distance(logits(golden(name), {"--cpu-weights", "nvfp4"}), exact);
    EXPECT_THAT(last_.err, HasSubstr("as NVFP4"));
    EXPECT_GT(int8, 0.0) << name;
    EXPECT_LT(int8, nvfp4) << name;
    EXPECT_LT(nvfp4, 1.0) << name << ": no better than noise";
  }
}

TEST_F(CliWeights, CopiesAreExact) {
  for (const char* name : {"moe-bf16-fused", "moe-nvfp4-modelopt"}) {
    const std::vector<float> exact = logits(golden(name), {});
    EXPECT_EQ(logits(golden(name), {"--cpu-weights", "copied"}), exact) << name;
    EXPECT_THAT(last_.err, HasSubstr("as BF16")) << name;
  }
}

TEST_F(CliWeights, TheCacheGivesTheSameBits) {
  const std::string model = golden("moe-bf16-fused");
  const std::string cache = dir_.path("weights");
  for (const char* format : {"int8", "nvfp4"}) {
    std::filesystem::remove(cache);
    const std::vector<float> wanted = logits(model, {"--cpu-weights", format});
    const std::vector<std::string> flags = {"--cpu-weights", format, "--cpu-weights-cache", cache};
    EXPECT_EQ(logits(model, flags), wanted);
    EXPECT_THAT(last_.err, HasSubstr("more memory"));
    EXPECT_EQ(logits(model, flags), wanted);
    EXPECT_THAT(last_.err, HasSubstr("read from the cache"));
  }
}

TEST_F(CliWeights, AStaleOrDamagedCacheIsMadeAnew) {
  const std::string model = golden("moe-bf16-fused");
  const std::string cache = dir_.path("weights");
  const std::vector<std::string> flags = {"--cpu-weights", "int8", "--cpu-weights-cache", cache};
  const std::vector<float> wanted = logits(model, flags);
  const auto expect_anew = [&](const char* why) {
    EXPECT_EQ(logits(model, flags), wanted) << why;
    EXPECT_THAT(last_.err, HasSubstr(why));
    EXPECT_THAT(last_.err, HasSubstr("making it anew"));
    EXPECT_EQ(logits(model, flags), wanted) << why;
    EXPECT_THAT(last_.err, HasSubstr("read from the cache")) << why;
  };
  const auto size = static_cast<int64_t>(std::filesystem::file_size(cache));
  for (const int64_t at : {size / 2, size - 1}) {
    std::fstream file(cache, std::ios::binary | std::ios::in | std::ios::out);
    file.seekg(at);
    const int byte = file.get();
    file.seekp(at);
    file.put(static_cast<char>(byte ^ 1));
    file.close();
    expect_anew("checksum");
  }
  std::filesystem::resize_file(cache, static_cast<uintmax_t>(size - 100));
  expect_anew("is damaged");
  logits(model, {"--cpu-weights", "nvfp4", "--cpu-weights-cache", cache});
  expect_anew("holds NVFP4, wanted INT8");
  logits(golden("dense-ple-kvshared-bf16"), flags);
  expect_anew("another checkpoint");
}

TEST_F(CliWeights, AChangedCheckpointOfTheSameShapesIsNoticed) {
  const std::string cache = dir_.path("weights");
  const std::vector<std::string> flags = {"--cpu-weights", "int8", "--cpu-weights-cache", cache};
  logits(golden("moe-bf16-fused"), flags);
  test::CheckpointEditor editor(golden("moe-bf16-fused"));
  const char* name = "model.language_model.layers.0.self_attn.q_proj.weight";
  for (char& byte : editor.tensor(name).bytes) byte = static_cast<char>(byte ^ 1);
  editor.save(dir_.path("changed"));
  logits(dir_.path("changed"), flags);
  EXPECT_THAT(last_.err, HasSubstr("another checkpoint"));
}

TEST_F(CliWeights, InfoSaysWhatTheCopiesWouldTake) {
  const Finished run =
      run_facet({"info", golden("moe-bf16-fused"), "--json", "--cpu-weights", "int8"});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  const boost::json::value plan = boost::json::parse(run.out).at("cpu_weights");
  EXPECT_EQ(plan.at("format"), "INT8");
  // Three layers of q, k, o, three MLP matrices and eight experts of three, v in two, the head.
  EXPECT_EQ(plan.at("matrices"), 3 * (3 + 3 + 8 * 3) + 2 + 1);
  EXPECT_GT(plan.at("bytes_before").as_int64(), plan.at("bytes").as_int64());
  EXPECT_THAT(run_facet({"info", golden("moe-bf16-fused")}).out, Not(HasSubstr("cpu weights")));
}

TEST_F(CliWeights, AFileThatIsNoCacheIsLeftAlone) {
  dir_.write("notes", "my only copy");
  const Finished run =
      run_facet({"generate", golden("moe-bf16-fused"), "--ids", "2,5", "--cpu-weights", "int8",
                 "--cpu-weights-cache", dir_.path("notes")});
  EXPECT_EQ(run.exit_code, kUsage);
  EXPECT_THAT(run.err, HasSubstr("no cache of weights"));
  EXPECT_EQ(test::read_text(dir_.path("notes")), "my only copy");
}

TEST_F(CliWeights, WrongUseIsRefusedWithOneLine) {
  const auto refusal = [&](std::vector<std::string> flags) {
    flags.insert(flags.begin(), {"generate", golden("moe-bf16-fused"), "--ids", "2"});
    const Finished run = run_facet(flags);
    EXPECT_EQ(run.exit_code, kUsage) << run.err;
    EXPECT_EQ(run.out, "");
    return run.err;
  };
  EXPECT_THAT(refusal({"--cpu-weights", "int8", "--backend", "ref"}), HasSubstr("--backend cpu"));
  EXPECT_THAT(refusal({"--cpu-weights", "int2"}), HasSubstr("--cpu-weights"));
  EXPECT_THAT(refusal({"--cpu-weights-cache", dir_.path("x")}), HasSubstr("--cpu-weights-cache"));
  EXPECT_THAT(refusal({"--cpu-weights", "copied", "--cpu-weights-cache", dir_.path("x")}),
              HasSubstr("--cpu-weights-cache"));
}

TEST_F(CliWeights, AWeightThatIsNoNumberIsNamed) {
  const std::string name = "model.language_model.layers.1.self_attn.o_proj.weight";
  test::CheckpointEditor editor(golden("moe-bf16-fused"));
  editor.tensor(name).bytes.replace(100, 2, "\xc0\x7f");  // NaN
  editor.save(dir_.path("changed"));
  for (const char* format : {"int8", "nvfp4"}) {
    const Finished run =
        run_facet({"generate", dir_.path("changed"), "--ids", "2", "--cpu-weights", format});
    EXPECT_EQ(run.exit_code, kBadCheckpoint);
    EXPECT_THAT(run.err, HasSubstr(name));
  }
}

}  // namespace
}  // namespace facet
