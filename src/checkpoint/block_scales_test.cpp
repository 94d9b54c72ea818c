#include "checkpoint/block_scales.h"

#include <gtest/gtest.h>
#include <vector>

namespace facet {
namespace {

TEST(BlockScales, TheFirstNaNOrNegativeIsFoundWhereverItLies) {
  for (const size_t size : {size_t{1}, size_t{4095}, size_t{4096}, size_t{4097}, size_t{20000}}) {
    std::vector<std::byte> codes(size, std::byte{0x7e});
    EXPECT_EQ(find_bad_scale(codes), -1) << size;
    for (const size_t at : {size_t{0}, size / 2, size - 1}) {
      codes[at] = std::byte{0x81};
      EXPECT_EQ(find_bad_scale(codes), static_cast<int64_t>(at)) << size;
      codes[at] = std::byte{0x7e};
    }
  }
}

TEST(BlockScales, EveryCode) {
  for (int code = 0; code < 256; ++code) {
    // -0 is a zero like any other.
    const bool bad = code == 0x7f || code > 0x80;
    const std::vector<std::byte> many(5000, std::byte{static_cast<uint8_t>(code)});
    EXPECT_EQ(find_bad_scale(many), bad ? 0 : -1) << code;
  }
}

}  // namespace
}  // namespace facet
