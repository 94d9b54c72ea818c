#include "quant/int8.h"

#include <cmath>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <random>
#include <vector>

#include "quant/float_formats.h"

namespace facet {
namespace {

using testing::ElementsAre;

struct Encoded {
  std::vector<int8_t> codes;
  std::vector<uint16_t> scales;
  std::vector<float> values;  // decoded again
};

Encoded encode(const std::vector<float>& w, int32_t group) {
  Encoded e;
  e.codes.resize(w.size());
  e.scales.resize((w.size() + static_cast<size_t>(group) - 1) / static_cast<size_t>(group));
  encode_int8_row(w, group, e.codes, e.scales);
  e.values.resize(w.size());
  decode_int8_row(std::as_bytes(std::span(e.codes)).data(),
                  std::as_bytes(std::span(e.scales)).data(), DType::kBF16, group, e.values);
  return e;
}

TEST(Int8, CodesAreNearestWithTiesToEven) {
  // amax 127 makes the scale 1.
  const Encoded e = encode({127.0F, -127.0F, 0.5F, 1.5F, -0.5F, -2.4F, 0.0F, 63.0F}, 8);
  EXPECT_THAT(e.codes, ElementsAre(127, -127, 0, 2, 0, -2, 0, 63));
  EXPECT_THAT(e.scales, ElementsAre(float_to_bf16(1.0F)));
}

TEST(Int8, EachGroupHasItsScaleAndTheLastMayBeShort) {
  const Encoded e = encode({127.0F, 1.0F, 0.0F, 0.0F, 254.0F, -2.0F}, 4);
  ASSERT_EQ(e.scales.size(), 2u);
  EXPECT_THAT(e.values, ElementsAre(127.0F, 1.0F, 0.0F, 0.0F, 254.0F, -2.0F));
  EXPECT_THAT(encode({0.0F, 0.0F}, 2).values, ElementsAre(0.0F, 0.0F));
}

TEST(Int8, ErrorStaysWithinHalfAStep) {
  std::mt19937 random(3);
  std::normal_distribution<float> normal(0.0F, 0.02F);
  std::vector<float> w(1000);
  for (float& value : w) value = normal(random);
  w[5] = 1e-30F;  // far below its group's step
  const Encoded e = encode(w, 32);
  for (size_t i = 0; i < w.size(); ++i) {
    const float scale = bf16_to_float(e.scales[i / 32]);
    // The scale may be rounded down by 2^-9, and the largest weight is then 127.25 steps.
    ASSERT_LE(std::fabs(e.values[i] - w[i]), 0.501F * scale) << i;
  }
}

}  // namespace
}  // namespace facet
