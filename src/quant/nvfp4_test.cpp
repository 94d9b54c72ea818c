#include "quant/nvfp4.h"

#include <algorithm>
#include <cmath>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <limits>
#include <set>

#include "base/error.h"
#include "quant/float_formats.h"

namespace facet {
namespace {

using testing::ElementsAre;
using testing::ElementsAreArray;

// A [2, 32] matrix with a block of thirds, a block of zeros and a tiny block.
std::vector<float> sample() {
  std::vector<float> w;
  for (int k = 0; k < 64; ++k) {
    const float value = static_cast<float>(k * 37 % 101 - 50) / 64.0F;
    if (k < 16)
      w.push_back(value);
    else if (k < 32)
      w.push_back(value * (1.0F / 3.0F));
    else
      w.push_back(k < 48 ? 0.0F : value * 0x1p-12F);
  }
  return w;
}

std::vector<float> decode(const Nvfp4Matrix& matrix, size_t cols) {
  std::vector<float> out(matrix.codes.size() * 2);
  for (size_t r = 0; r * cols < out.size(); ++r) {
    decode_nvfp4_row(reinterpret_cast<const std::byte*>(matrix.codes.data()) + r * cols / 2,
                     reinterpret_cast<const std::byte*>(matrix.scales.data()) + r * cols / 16,
                     matrix.global_scale, std::span(out).subspan(r * cols, cols));
  }
  return out;
}

// checkpoint-formats 2.4, worked row; and byte 0x21 = columns 0.5, 1.
TEST(Nvfp4, LowNibbleIsTheEvenColumn) {
  Nvfp4Matrix matrix{{0x2a, 0x71, 0x21, 0, 0, 0, 0, 0x80}, {0x70}, 0x1p-10F};
  EXPECT_THAT(decode(matrix, 16), ElementsAre(-0.125F, 0.125F, 0.0625F, 0.75F, 0.0625F, 0.125F, 0,
                                              0, 0, 0, 0, 0, 0, 0, 0, -0.0F));
  matrix.scales = {0x38};
  matrix.global_scale = 1.0F;
  EXPECT_EQ(decode(matrix, 16)[4], 0.5F);
  EXPECT_EQ(decode(matrix, 16)[5], 1.0F);
}

// e2m1 * (scale * global) and (e2m1 * scale) * global differ in the last bit for these values; the
// second is rounded once.
TEST(Nvfp4, TheGlobalScaleIsMultipliedLast) {
  const float global = 0x1.abcdefp-9F;
  bool orders_differ = false;
  for (int scale = 1; scale < 0x7f; ++scale) {
    const Nvfp4Matrix matrix{std::vector<uint8_t>(8, 0x55), {static_cast<uint8_t>(scale)}, global};
    const float e4m3 = e4m3_table()[static_cast<size_t>(scale)];
    const double exact = 3.0 * static_cast<double>(e4m3) * static_cast<double>(global);
    EXPECT_EQ(decode(matrix, 16)[0], static_cast<float>(exact));
    orders_differ |= 3.0F * (e4m3 * global) != static_cast<float>(exact);
  }
  EXPECT_TRUE(orders_differ);
}

// Bytes made by an independent implementation of the reference codec.
TEST(Nvfp4, QuantisesAsTheReferenceDoes) {
  const Nvfp4Matrix matrix = quantize_nvfp4(sample(), 2, 32);
  EXPECT_EQ(matrix.global_scale, 0x1.30c30cp-12F);
  EXPECT_THAT(matrix.scales, ElementsAre(0x7e, 0x71, 0x01, 0x1e));
  EXPECT_THAT(matrix.codes,
              ElementsAreArray({0xbf, 0xe5, 0x69, 0x2e, 0xc7, 0xf4, 0x5a, 0x0e, 0xd6, 0x72, 0x4c,
                                0xaf, 0xe6, 0x61, 0x3d, 0xb7, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
                                0x00, 0x00, 0x72, 0x4c, 0xaf, 0xe5, 0x60, 0x3d, 0xc7, 0xf5}));
}

TEST(Nvfp4, QuantisesWithAGivenGlobalScale) {
  const Nvfp4Matrix matrix = quantize_nvfp4(sample(), 2, 32, 0x1p-10F);
  EXPECT_EQ(matrix.global_scale, 0x1p-10F);
  EXPECT_THAT(matrix.scales, ElementsAre(0x70, 0x63, 0x01, 0x10));
  EXPECT_EQ(matrix.codes[27], 0xe6);  // the one byte in which the global scale shows
}

TEST(Nvfp4, BlockScalesAreTheNearestOnes) {
  for (uint8_t low = 1; low < 0x7e; ++low) {
    const float middle = (e4m3_table()[low] + e4m3_table()[low + 1u]) / 2;
    std::vector<float> w(48, 0.0F);
    w[0] = 6.0F * middle * (1.0F - 0x1p-10F);
    w[16] = 6.0F * middle;
    w[47] = -6.0F * middle * (1.0F + 0x1p-10F);
    const uint8_t even = low % 2 == 0 ? low : low + 1;
    EXPECT_THAT(quantize_nvfp4(w, 1, 48, 1.0F).scales, ElementsAre(low, even, low + 1));
  }
}

TEST(Nvfp4, BlockScalesStayWithinE4m3) {
  std::vector<float> w(32, 0.0F);
  w[0] = 1.0F;
  w[16] = 1e-30F;
  const Nvfp4Matrix small = quantize_nvfp4(w, 1, 32);
  EXPECT_THAT(small.scales, ElementsAre(0x7e, 0x01));
  const Nvfp4Matrix large = quantize_nvfp4(w, 1, 32, 1e-6F);  // 1 / 6 / 1e-6 is far beyond 448
  EXPECT_EQ(large.scales[0], 0x7e);
  EXPECT_EQ(large.codes[0], 0x07);
  EXPECT_EQ(decode(large, 32)[0], 6.0F * (448.0F * 1e-6F));
}

TEST(Nvfp4, ZerosStayZeros) {
  const Nvfp4Matrix matrix = quantize_nvfp4(std::vector<float>(16, 0.0F), 1, 16);
  EXPECT_EQ(matrix.global_scale, 1.0F);
  EXPECT_THAT(matrix.scales, ElementsAre(0x01));
  EXPECT_THAT(decode(matrix, 16), ElementsAreArray(std::vector<float>(16, 0.0F)));
}

TEST(Nvfp4, WhatNoGlobalScaleCanHoldBecomesZero) {
  const std::vector<float> w(16, std::numeric_limits<float>::denorm_min());
  const Nvfp4Matrix matrix = quantize_nvfp4(w, 1, 16);
  EXPECT_EQ(matrix.global_scale, 1.0F);
  EXPECT_THAT(decode(matrix, 16), ElementsAreArray(std::vector<float>(16, 0.0F)));
}

TEST(Nvfp4, RefusesWhatIsNotFinite) {
  std::vector<float> w(16, 1.0F);
  w[5] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_THROW(quantize_nvfp4(w, 1, 16), Error);
  w[5] = -std::numeric_limits<float>::infinity();
  EXPECT_THROW(quantize_nvfp4(w, 1, 16), Error);
}

// checkpoint-formats 2.8.
TEST(Nvfp4, ScaleOffsetsOf128x4Tiles) {
  const auto offset = [](int64_t row, int64_t col) {
    return nvfp4_scale_offset_128x4(row, col, 176);
  };
  EXPECT_EQ(offset(0, 0), 0);
  EXPECT_EQ(offset(1, 0), 16);
  EXPECT_EQ(offset(32, 0), 4);
  EXPECT_EQ(offset(0, 1), 1);
  EXPECT_EQ(offset(0, 4), 512);
  EXPECT_EQ(offset(127, 3), 511);
  EXPECT_EQ(offset(128, 0), 22528);
  EXPECT_EQ(nvfp4_scale_bytes_128x4(1408, 176), 1408 * 176);
}

TEST(Nvfp4, ScaleOffsetsAreDistinctAndWithinTheirSize) {
  std::set<int64_t> seen;
  for (int64_t row = 0; row < 130; ++row) {
    for (int64_t col = 0; col < 6; ++col) seen.insert(nvfp4_scale_offset_128x4(row, col, 6));
  }
  EXPECT_EQ(seen.size(), 130u * 6u);
  EXPECT_GE(*seen.begin(), 0);
  EXPECT_EQ(nvfp4_scale_bytes_128x4(130, 6), 256 * 8);
  EXPECT_LT(*seen.rbegin(), 256 * 8);
}

// Codes and scales made by an independent implementation of checkpoint-formats 2.7.
TEST(Nvfp4, QuantisesActivationsAsW4A4ProductsDo) {
  std::vector<float> x = sample();
  x.resize(32);
  for (size_t i = 0; i < 32; ++i) x[i] *= i < 16 ? 3.0F : 3.0F * 0x1p-7F;
  const std::vector<int> codes = {0xf, 0xb, 0x5, 0xe, 0x9, 0x6, 0xe, 0x2, 0x7, 0xc, 0x4,
                                  0xf, 0xa, 0x5, 0xe, 0x0, 0x6, 0xd, 0x2, 0x7, 0xc, 0x4,
                                  0xf, 0xa, 0x6, 0xe, 0x1, 0x6, 0xd, 0x3, 0x7, 0xb};
  std::vector<float> out(32);
  quantize_activation_nvfp4(x, 0.01F, out);
  for (size_t i = 0; i < 32; ++i) {
    const float scale = i < 16 ? 40.0F : 0.1015625F;
    EXPECT_EQ(out[i], kE2m1Values[static_cast<size_t>(codes[i])] * (scale * 0.01F)) << i;
  }
  quantize_activation_nvfp4(x, 0.01F, x);
  EXPECT_EQ(x, out);
}

TEST(Nvfp4, ActivationBlocksOfNothingGiveZeros) {
  std::vector<float> x(48, 0.0F);
  x[16] = 1e-9F;  // below the least block scale
  x[32] = 1e9F;   // above the largest
  std::vector<float> out(48, 7.0F);
  quantize_activation_nvfp4(x, 1.0F, out);
  EXPECT_TRUE(std::all_of(out.begin(), out.begin() + 32, [](float v) { return v == 0.0F; }));
  EXPECT_EQ(out[32], 6.0F * 448.0F);
  EXPECT_EQ(out[33], 0.0F);
}

}  // namespace
}  // namespace facet
