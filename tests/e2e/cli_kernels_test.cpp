// Which kernels run: what `info` says of a GPU, here or not, and choices that cannot be.

#include <algorithm>
#include <boost/json/parse.hpp>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <set>

#include "tests/e2e/process.h"

namespace facet {
namespace {

using test::Finished;
using test::golden;
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
  EXPECT_THAT(hopper, AllOf(HasSubstr("sm_90, a GPU that need not be here"),
                            HasSubstr("W4A16 NVFP4"), HasSubstr("no FP4 tensor cores"),
                            HasSubstr("attention"), HasSubstr("linears")));
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
  EXPECT_EQ(kinds, (std::set<std::string>{"attention", "experts", "linears"}));
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
  EXPECT_THAT(refusal(kUsage, {"info", golden("moe-bf16-fused"), "--gpu", "h200"}),
              HasSubstr("--gpu 'h200': wanted a compute capability"));
  EXPECT_THAT(refusal(kDevice, {"info", golden("moe-bf16-fused"), "--gpu", "sm_75"}),
              HasSubstr("the GPU is sm_75; BF16 tensor cores need sm_80 or newer"));
}

TEST(CliKernels, WithoutAGpuChoicesOfItsKernelsAreRefused) {
  for (const char* backend : {"cpu", "ref"}) {
    EXPECT_THAT(refusal(kUsage, {"generate", golden("moe-bf16-fused"), "--ids", "2,3", "--backend",
                                 backend, "--expert-kernel", "tiled"}),
                HasSubstr("--expert-kernel tiled: is for a GPU, and none computes here"));
  }
}

}  // namespace
}  // namespace facet
