// Which kernels run: what `info` says of a GPU, here or not, and choices that cannot be.

#include <algorithm>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <set>

#include "tests/e2e/process.h"
#include "tests/support.h"

namespace facet {
namespace {

using test::Finished;
using test::golden;
using test::kBadCheckpoint;
using test::kDevice;
using test::kUsage;
using test::run_facet;
using testing::AllOf;
using testing::HasSubstr;

std::string info_of(const std::string& model, const std::vector<std::string>& flags) {
  std::vector<std::string> all = {"info", model};
  all.insert(all.end(), flags.begin(), flags.end());
  const Finished done = run_facet(all);
  EXPECT_EQ(done.exit_code, 0) << done.err;
  return done.out;
}

/// The one line of a refusal.
std::string refusal(int exit_code, std::vector<std::string> arguments) {
  const Finished done = run_facet(arguments);
  EXPECT_EQ(done.exit_code, exit_code) << done.err;
  const size_t at = done.err.find("facet: ");  // below what the log says of the load
  if (at == std::string::npos) return {};
  const std::string line = done.err.substr(at);
  EXPECT_EQ(std::count(line.begin(), line.end(), '\n'), 1) << done.err;
  return line;
}

TEST(CliKernels, InfoSaysWhatAGpuElsewhereWouldRun) {
  const std::string hopper = info_of(golden("moe-nvfp4-modelopt"), {"--gpu", "sm_90"});
  EXPECT_THAT(hopper,
              AllOf(HasSubstr("sm_90, a GPU that need not be here"), HasSubstr("W4A16 NVFP4"),
                    HasSubstr("no FP4 tensor cores"), HasSubstr("attention"), HasSubstr("linears"),
                    HasSubstr("launches for each part of a layer"),
                    HasSubstr("the cache is F8_E4M3, one launch takes BF16 (--kv-dtype bf16)")));
  EXPECT_THAT(info_of(golden("moe-nvfp4-modelopt"), {"--gpu", "sm_90", "--kv-dtype", "bf16"}),
              HasSubstr("one launch takes the sizes of Gemma 4 26B-A4B"));
  const std::string forced =
      info_of(golden("moe-nvfp4-modelopt"),
              {"--gpu", "sm_90", "--expert-kernel", "plain", "--attention-kernel", "plain"});
  EXPECT_THAT(forced, AllOf(HasSubstr("because --expert-kernel plain was asked for"),
                            HasSubstr("plain float32")));
}

TEST(CliKernels, InfoSaysItInJsonToo) {
  const boost::json::value all =
      boost::json::parse(info_of(golden("moe-nvfp4-modelopt"), {"--gpu", "sm_100", "--json"}));
  std::set<std::string> kinds;
  for (const boost::json::value& line : all.at("kernels").as_array()) {
    kinds.insert(std::string(line.at("kind").as_string()));
    EXPECT_FALSE(line.at("why").as_string().empty());
  }
  EXPECT_EQ(kinds, (std::set<std::string>{"attention", "experts", "linears", "steps"}));
}

TEST(CliKernels, ChoicesThatCannotBeAreOneLine) {
  EXPECT_THAT(refusal(kUsage, {"info", golden("moe-nvfp4-modelopt"), "--gpu", "sm_90",
                               "--nvfp4-path", "w4a4"}),
              HasSubstr("--nvfp4-path w4a4: sm_90 has no FP4 tensor cores (sm_100 has); auto and "
                        "w4a16 work"));
  EXPECT_THAT(refusal(kUsage, {"info", golden("dense-int4-g32"), "--gpu", "sm_90",
                               "--expert-kernel", "tiled"}),
              HasSubstr("--expert-kernel tiled: the model has no experts"));
  EXPECT_THAT(refusal(kUsage, {"info", golden("dense-int4-g32"), "--gpu", "sm_90",
                               "--linear-kernel", "stream"}),
              AllOf(HasSubstr("--linear-kernel stream: cannot compute linears on sm_90: INT4"),
                    HasSubstr("auto and plain work")));
  EXPECT_THAT(refusal(kUsage, {"info", golden("moe-bf16-fused"), "--gpu", "sm_90", "--step-kernel",
                               "whole"}),
              HasSubstr("--step-kernel whole: experts are BF16, one launch takes NVFP4; auto and "
                        "apart work"));
  EXPECT_THAT(refusal(kUsage, {"info", golden("moe-bf16-fused"), "--gpu", "h200"}),
              HasSubstr("--gpu 'h200': wanted a compute capability"));
  EXPECT_THAT(refusal(kDevice, {"info", golden("moe-bf16-fused"), "--gpu", "sm_75"}),
              HasSubstr("the GPU is sm_75; BF16 tensor cores need sm_80 or newer"));
}

/// A model of random weights as `change` makes it of a golden's config.
template <typename Change>
std::string synthetic(const test::TempDir& dir, const std::string& from, const Change& change) {
  boost::json::object config =
      boost::json::parse(test::read_text(golden(from) + "/config.json")).as_object();
  change(config.at("text_config").as_object());
  dir.write("config.json", boost::json::serialize(config));
  const Finished done = run_facet({"synth", dir.path("config.json"), "--out", dir.path("model")});
  EXPECT_EQ(done.exit_code, 0) << done.err;
  return dir.path("model");
}

TEST(CliKernels, DimensionsThatNoGpuKernelTakesAreOneLine) {
  const test::TempDir many;
  const std::string routed = synthetic(many, "moe-bf16-fused", [](boost::json::object& text) {
    text["num_experts"] = 40;
    text["top_k_experts"] = 33;
  });
  EXPECT_EQ(refusal(kBadCheckpoint, {"info", routed, "--gpu", "sm_90"}),
            "facet: config.json: field top_k_experts: found 33, wanted at most 32 on a GPU; "
            "--backend cpu takes it\n");
  const test::TempDir wide;
  const std::string heads = synthetic(
      wide, "moe-bf16-fused", [](boost::json::object& text) { text["global_head_dim"] = 516; });
  EXPECT_THAT(refusal(kBadCheckpoint, {"info", heads, "--gpu", "sm_100"}),
              HasSubstr("field global_head_dim: found 516, wanted at most 512 on a GPU"));
  for (const std::string& model : {routed, heads}) {
    const Finished done =
        run_facet({"generate", model, "--ids", "2,3", "--max-tokens", "2", "--backend", "cpu"});
    EXPECT_EQ(done.exit_code, 0) << done.err;
  }
}

TEST(CliKernels, WithoutAGpuChoicesOfItsKernelsAreRefused) {
  for (const char* backend : {"cpu", "ref"}) {
    EXPECT_THAT(refusal(kUsage, {"generate", golden("moe-bf16-fused"), "--ids", "2,3", "--backend",
                                 backend, "--expert-kernel", "tiled"}),
                HasSubstr("--expert-kernel tiled: is for a GPU, and none computes here"));
    EXPECT_THAT(refusal(kUsage, {"generate", golden("moe-bf16-fused"), "--ids", "2,3", "--backend",
                                 backend, "--step-kernel", "apart"}),
                HasSubstr("--step-kernel apart: is for a GPU, and none computes here"));
  }
}

}  // namespace
}  // namespace facet
