#include "quant/int4.h"

#include <cstring>
#include <gtest/gtest.h>
#include <vector>

#include "quant/float_formats.h"

namespace facet {
namespace {

TEST(Int4, NibbleJOfAWordIsColumn8WPlusJ) {
  const std::vector<uint32_t> words = {0x76543210u, 0xfedcba98u};
  const float scale = 0.25F;
  std::vector<float> out(16);
  decode_int4_row(reinterpret_cast<const std::byte*>(words.data()),
                  reinterpret_cast<const std::byte*>(&scale), DType::kF32, 16, out);
  for (size_t c = 0; c < 16; ++c) EXPECT_EQ(out[c], (static_cast<float>(c) - 8.0F) * 0.25F) << c;
}

class Int4Groups : public testing::TestWithParam<int32_t> {};

TEST_P(Int4Groups, EveryGroupHasItsScale) {
  const auto group = static_cast<size_t>(GetParam());
  const size_t cols = 3 * group;
  const std::vector<uint16_t> scales = {0x3f80, 0x4000, 0x4040};  // 1, 2, 3
  std::vector<std::byte> bytes(1 + cols / 2, std::byte{0x70});    // -8 in even columns, -1 in odd
  std::vector<float> out(cols);
  decode_int4_row(bytes.data() + 1, reinterpret_cast<const std::byte*>(scales.data()), DType::kBF16,
                  GetParam(), out);
  for (size_t c = 0; c < cols; ++c) {
    const float scale = static_cast<float>(c / group + 1);
    ASSERT_EQ(out[c], (c % 2 == 0 ? -8.0F : -1.0F) * scale) << c;
  }
}

INSTANTIATE_TEST_SUITE_P(Sizes, Int4Groups, testing::Values(8, 24, 32, 64, 128));

}  // namespace
}  // namespace facet
