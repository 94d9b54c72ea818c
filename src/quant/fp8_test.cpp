#include "quant/fp8.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <limits>

#include "base/error.h"
#include "quant/float_formats.h"

namespace facet {
namespace {

using testing::ElementsAreArray;

// Bytes made by an independent implementation of the reference codec.
TEST(Fp8, QuantisesRowsAsTheReferenceDoes) {
  std::vector<float> w;
  for (int k = 0; k < 16; ++k) w.push_back(static_cast<float>(k * 37 % 101 - 50) / 64.0F);
  w.resize(32, 0.0F);
  const Fp8Matrix matrix = quantize_fp8_channel(w, 2, 16);
  EXPECT_EQ(matrix.scales[0], 0x3ae5);
  EXPECT_THAT(std::span(matrix.values).first(16),
              ElementsAreArray({0xfe, 0xef, 0x75, 0xfb, 0xdd, 0x7a, 0xf8, 0x68, 0x7c, 0xf3, 0x72,
                                0xfd, 0xeb, 0x77, 0xfa, 0x00}));
  EXPECT_EQ(matrix.scales[1], float_to_bf16(1e-12F));  // a row of zeros has a scale all the same
  EXPECT_EQ(matrix.values[16], 0);
}

// The BF16 scale may be rounded down, and w / scale then lies beyond 448.
TEST(Fp8, SaturatesWhenTheScaleWasRoundedDown) {
  const std::vector<float> w = {-449.0F};
  const Fp8Matrix matrix = quantize_fp8_channel(w, 1, 1);
  EXPECT_EQ(matrix.scales[0], 0x3f80);
  EXPECT_EQ(matrix.values[0], 0xfe);
}

TEST(Fp8, RefusesWhatIsNotFinite) {
  const std::vector<float> w = {1.0F, std::numeric_limits<float>::infinity()};
  EXPECT_THROW(quantize_fp8_channel(w, 1, 2), Error);
}

TEST(Fp8, BlocksTakeTheScaleOfTheirColumns) {
  std::vector<std::byte> values(130, std::byte{0x38});    // 1
  const std::vector<uint16_t> scales = {0x3f00, 0xc000};  // 0.5, -2
  std::vector<float> out(130);
  decode_fp8_block_row(values.data(), reinterpret_cast<const std::byte*>(scales.data()),
                       DType::kBF16, out);
  EXPECT_EQ(out[0], 0.5F);
  EXPECT_EQ(out[127], 0.5F);
  EXPECT_EQ(out[128], -2.0F);
  EXPECT_EQ(out[129], -2.0F);
}

}  // namespace
}  // namespace facet
