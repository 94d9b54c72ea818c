#include "base/process.h"

#include <cstring>
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

}  // namespace
}  // namespace facet
