#include <cstring>
#include <gtest/gtest.h>
#include <vector>

#include "kernels/cpu/cpu_backend.h"

namespace facet::cpu {
namespace {

TEST(Peaks, ReadTakesEveryByte) {
  for (const Isa isa : supported_isas()) {
    const KernelTable kernels = kernel_table(isa);
    std::vector<uint64_t> words(4 * kReadStep / 8);
    for (size_t i = 0; i < words.size(); ++i) words[i] = i * i;
    uint64_t wanted = 0;
    for (const uint64_t word : words) wanted += word;
    EXPECT_EQ(kernels.read(reinterpret_cast<const std::byte*>(words.data()), 4 * kReadStep), wanted)
        << to_string(isa);
    EXPECT_EQ(kernels.read(nullptr, 0), 0u);
  }
}

TEST(Peaks, BurstDoesTheRoundsItIsAskedFor) {
  for (const Isa isa : supported_isas()) {
    const KernelTable kernels = kernel_table(isa);
    ASSERT_GT(kernels.burst_flops, 0);
    const auto values = static_cast<float>(kernels.burst_flops / 2);
    const auto lanes = values / 12.0F;  // chain i starts at i: 0 + 1 + … + 11 = 66
    EXPECT_EQ(kernels.burst(0), 66.0F * lanes) << to_string(isa);
    EXPECT_EQ(kernels.burst(1), 33.0F * lanes + values) << to_string(isa);
    EXPECT_FLOAT_EQ(kernels.burst(60), 2.0F * values) << to_string(isa);
  }
}

}  // namespace
}  // namespace facet::cpu
