#include "kernels/gpu_fault.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "kernels/refusal_test.h"

namespace facet {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

GpuFacts good() {
  GpuFacts facts;
  facts.driver = 13000;
  facts.build = 13000;
  facts.devices = 1;
  facts.name = "NVIDIA H200";
  facts.capability = {9, 0};
  facts.has_code = true;
  return facts;
}

std::string fault(const GpuFacts& facts) {
  const std::string text = find_gpu_fault(facts).value_or("");
  EXPECT_EQ(text.find('\n'), std::string::npos);
  return text;
}

TEST(GpuFault, AGoodGpuHasNone) {
  EXPECT_EQ(find_gpu_fault(good()), std::nullopt);
  GpuFacts facts = good();
  facts.driver = 13020;
  facts.build = 13000;
  EXPECT_EQ(find_gpu_fault(facts), std::nullopt);
  facts.driver = 13000;
  facts.build = 13020;  // minor versions are compatible
  EXPECT_EQ(find_gpu_fault(facts), std::nullopt);
}

TEST(GpuFault, ADriverThatIsMissingOrTooOld) {
  GpuFacts facts = good();
  facts.driver = 0;
  facts.devices = 0;
  EXPECT_EQ(fault(facts), "no NVIDIA driver was found");
  facts.driver = 12040;
  facts.count_error = "CUDA driver version is insufficient for CUDA runtime version";
  EXPECT_EQ(fault(facts),
            "the NVIDIA driver knows CUDA 12.4, this build needs 13.0 or newer: install a newer "
            "driver");
}

TEST(GpuFault, NoGpu) {
  GpuFacts facts = good();
  facts.devices = 0;
  facts.count_error = "no CUDA-capable device is detected";
  EXPECT_EQ(fault(facts), "no GPU: cudaGetDeviceCount: no CUDA-capable device is detected");
  facts.count_error.clear();
  EXPECT_THAT(fault(facts), HasSubstr("CUDA_VISIBLE_DEVICES"));
}

TEST(GpuFault, AGpuThatIsTooOldOrUnknownToTheBuild) {
  GpuFacts facts = good();
  facts.name = "Tesla V100";
  facts.capability = {7, 0};
  EXPECT_EQ(fault(facts),
            "Tesla V100 is too old: it has compute capability 7.0, wanted 8.0 or higher (BF16 "
            "tensor cores)");
  facts = good();
  facts.has_code = false;
  EXPECT_THAT(fault(facts), AllOf(HasSubstr("no code for NVIDIA H200 (compute capability 9.0)"),
                                  HasSubstr("cuda-all")));
}

TEST(GpuFault, AGpuThatIsTakenByAnotherProcess) {
  GpuFacts facts = good();
  facts.context_error = "all CUDA-capable devices are busy or unavailable";
  facts.taken = true;
  facts.has_code = false;  // was not looked at
  EXPECT_THAT(fault(facts), AllOf(HasSubstr("NVIDIA H200 is taken by another process"),
                                  HasSubstr("busy or unavailable"),
                                  HasSubstr("CUDA_VISIBLE_DEVICES chooses another")));
  facts.taken = false;
  facts.context_error = "out of memory";
  EXPECT_EQ(fault(facts), "NVIDIA H200 cannot be used: out of memory");
}

constexpr int64_t kGB = 1000000000;

std::string refusal(const GpuNeeds& needs, const DeviceMemory& memory) {
  return test::refusal(ErrorCode::kOutOfMemory, [&] { check_gpu_memory(needs, memory); });
}

TEST(GpuMemory, WhatFitsIsNotRefused) {
  EXPECT_EQ(refusal({18 * kGB, 2 * kGB, 100 * kGB, "--kv-memory"}, {120 * kGB, 140 * kGB}), "");
}

TEST(GpuMemory, ACacheThatDoesNotFitNamesItsFlag) {
  const std::string line =
      refusal({18 * kGB, 2 * kGB, 101 * kGB, "--kv-memory or another"}, {120 * kGB, 121 * kGB});
  EXPECT_EQ(line,
            "memory of the GPU: 121.0 GB are needed (18.0 GB weights, 101.0 GB keys and values, "
            "2.0 GB activations and workspace), the GPU has 120.0 GB of 121.0 GB free; less with "
            "--kv-memory or another");
}

TEST(GpuMemory, WeightsThatDoNotFitNameWhatHelps) {
  const std::string line = refusal({50 * kGB, 2 * kGB, kGB, "--kv-memory"}, {40 * kGB, 140 * kGB});
  EXPECT_THAT(line, AllOf(HasSubstr("50.0 GB weights"), HasSubstr("40.0 GB of 140.0 GB free"),
                          HasSubstr("other processes hold about 100.0 GB"),
                          HasSubstr("--backend cpu"), Not(HasSubstr("--kv-memory"))));
}

TEST(GpuMemory, OtherProcessesAreNamedOnlyWhereTheyHoldMuch) {
  EXPECT_EQ(describe_memory({139 * kGB, 140 * kGB}, 0), "139.0 GB of 140.0 GB free");
  EXPECT_EQ(describe_memory({100 * kGB, 140 * kGB}, 39 * kGB), "100.0 GB of 140.0 GB free");
  EXPECT_THAT(describe_memory({100 * kGB, 140 * kGB}, 0), HasSubstr("hold about 40.0 GB"));
}

}  // namespace
}  // namespace facet
