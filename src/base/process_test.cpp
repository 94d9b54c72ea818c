#include "base/process.h"

#include <cstring>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <memory>

namespace facet {
namespace {

TEST(Process, PeakGrowsWithTouchedMemoryAndStays) {
  constexpr int64_t kBytes = int64_t{64} << 20;
  const int64_t before = peak_resident_bytes();
  EXPECT_GT(before, 0);
  {
    const auto memory = std::make_unique<char[]>(kBytes);
    std::memset(memory.get(), 1, kBytes);
    EXPECT_EQ(memory[kBytes - 1], 1);
  }
  const int64_t after = peak_resident_bytes();
  EXPECT_GE(after, kBytes);
  EXPECT_GE(after, before);
}

TEST(Process, KnowsItsCommandLine) {
  const std::string line = command_line();
  EXPECT_NE(line.find("facet_base_test"), std::string::npos) << line;
  EXPECT_EQ(line.find('\0'), std::string::npos);
}

TEST(Process, KnowsItsFile) {
  const std::filesystem::path file = program_file();
  EXPECT_EQ(file.filename(), "facet_base_test");
  EXPECT_TRUE(std::filesystem::equivalent(file, "/proc/self/exe"));
}

TEST(Process, UsageIsThatOfNow) {
  const ProcessUsage usage = process_usage();
  EXPECT_GT(usage.resident_bytes, 1 << 20);
  EXPECT_LE(usage.resident_bytes, peak_resident_bytes() + (1 << 20));
  EXPECT_GT(usage.virtual_bytes, usage.resident_bytes);
  EXPECT_NEAR(usage.start_time, static_cast<double>(std::time(nullptr)), 600);
  EXPECT_GE(usage.most_descriptors, usage.open_descriptors);
  const std::ifstream one_more("/proc/self/stat");
  EXPECT_EQ(process_usage().open_descriptors, usage.open_descriptors + 1);
  const double cpu = usage.cpu_seconds;
  while (process_usage().cpu_seconds < cpu + 0.02) {
  }
}

}  // namespace
}  // namespace facet
