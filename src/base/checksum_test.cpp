#include "base/checksum.h"

#include <gtest/gtest.h>
#include <string_view>
#include <vector>

namespace facet {
namespace {

uint64_t of(std::string_view text, uint64_t seed = 0) {
  return checksum(std::as_bytes(std::span(text.data(), text.size())), seed);
}

// Published values of XXH64.
TEST(Checksum, IsXxh64) {
  EXPECT_EQ(of(""), 0xEF46DB3751D8E999u);
  EXPECT_EQ(of("a"), 0xD24EC4F1A98C6E5Bu);
  EXPECT_EQ(of("abc"), 0x44BC2CF5AD770999u);
  EXPECT_EQ(of("Nobody inspects the spammish repetition"), 0xFBCEA83C8A378BF1u);
}

TEST(Checksum, EveryBitOfAnyLengthCounts) {
  for (const size_t size : {1u, 4u, 8u, 13u, 31u, 32u, 45u, 100u}) {
    std::vector<std::byte> bytes(size, std::byte{7});
    const uint64_t before = checksum(bytes);
    for (size_t i = 0; i < size; ++i) {
      bytes[i] ^= std::byte{16};
      EXPECT_NE(checksum(bytes), before) << i << " of " << size;
      bytes[i] ^= std::byte{16};
    }
    EXPECT_EQ(checksum(bytes), before);
    EXPECT_NE(checksum(bytes, 1), before);
  }
}

}  // namespace
}  // namespace facet
