#include "kernels/ref/w4a4.h"

#include <cmath>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <random>

#include "kernels/ref/ref_backend.h"
#include "quant/float_formats.h"
#include "quant/nvfp4.h"
#include "tensor/buffer.h"
#include "tests/tolerance.h"

namespace facet::ref {
namespace {

using testing::Each;
using testing::ElementsAre;

std::vector<float> random_values(size_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.0F, 1.0F);
  std::vector<float> values(count);
  for (float& value : values) value = normal(random);
  return values;
}

/// A view of a vector as [rows, cols].
TensorView view(std::vector<float>& values, int64_t rows, int64_t cols) {
  return {reinterpret_cast<std::byte*>(values.data()), DType::kF32, {rows, cols}};
}

struct Stored {
  Nvfp4Matrix values;
  WeightMatrix matrix;
};

Stored stored(const std::vector<float>& w, int64_t rows, int64_t cols, float input_scale) {
  Stored s;
  s.values = quantize_nvfp4(w, rows, cols);
  s.matrix = {.format = WeightFormat::kNvfp4,
              .rows = rows,
              .cols = cols,
              .data = reinterpret_cast<const std::byte*>(s.values.codes.data()),
              .scales = reinterpret_cast<const std::byte*>(s.values.scales.data()),
              .scale_dtype = DType::kF8E4M3,
              .scale_rows = rows,
              .group_size = 16,
              .global_scale = s.values.global_scale,
              .input_scale = input_scale};
  return s;
}

// m = 12, g = 2: scale = e4m3(4) = 4, k = 1/2. Halves of the values, ties to the even code.
TEST(W4A4, QuantisesABlockByItsLargestValue) {
  const std::vector<float> x = {12, -12, 6, 1,     0.5F, 1.5F, -2.5F, 5,
                                7,  10,  0, -0.0F, 3,    3.5F, 9,     11};
  const Fp4Row row = quantize_fp4_row(x, 0.5F);
  ASSERT_THAT(row.scales, ElementsAre(float_to_e4m3(4.0F)));
  std::vector<float> codes;
  for (const uint8_t code : row.codes) codes.push_back(kE2m1Values[code]);
  EXPECT_THAT(codes, ElementsAre(6, -6, 3, 0.5F, 0, 1, -1, 2, 4, 4, 0, 0, 1.5F, 2, 4, 6));
}

// The scale saturates at 448: what is larger than 448 * 6 * input_scale becomes that.
TEST(W4A4, LargeActivationsSaturate) {
  std::vector<float> x(16, 0.0F);
  x[3] = -1e6F;
  const Fp4Row row = quantize_fp4_row(x, 1.0F);
  EXPECT_EQ(e4m3_table()[row.scales[0]], 448.0F);
  EXPECT_EQ(kE2m1Values[row.codes[3]], -6.0F);
}

TEST(W4A4, BlocksTooSmallForAScaleBecomeZeros) {
  const std::vector<float> x(16, 1e-6F);
  const Fp4Row row = quantize_fp4_row(x, 1.0F);
  EXPECT_EQ(row.scales[0], 0);
  EXPECT_THAT(row.codes, Each(0));
}

TEST(W4A4, CodesMeanWhatTheQuantiserSays) {
  const std::vector<float> x = random_values(160, 3);
  constexpr float kInputScale = 3e-3F;
  const Fp4Row row = quantize_fp4_row(x, kInputScale);
  std::vector<float> expected(x.size());
  quantize_activation_nvfp4(x, kInputScale, expected);
  for (size_t i = 0; i < x.size(); ++i) {
    EXPECT_EQ(kE2m1Values[row.codes[i]] * (e4m3_table()[row.scales[i / 16]] * kInputScale),
              expected[i]);
  }
}

// The product over codes is the product over what they mean.
TEST(W4A4, ProductsOfCodesAreProductsOfValues) {
  constexpr int64_t kRows = 7;
  constexpr int64_t kCols = 96;
  const Stored w = stored(random_values(kRows * kCols, 1), kRows, kCols, 2e-3F);
  std::vector<float> x = random_values(3 * kCols, 2);
  std::vector<float> out(3 * kRows);
  linear_w4a4(view(out, 3, kRows), view(x, 3, kCols), w.matrix);

  std::vector<float> quantised(x.size());
  quantize_activation_nvfp4(x, w.matrix.input_scale, quantised);
  std::vector<float> expected(out.size());
  make_ref_backend()->linear(view(expected, 3, kRows), view(quantised, 3, kCols), w.matrix);
  std::vector<float> row(kCols);
  for (size_t t = 0; t < 3; ++t) {
    for (size_t r = 0; r < kRows; ++r) {
      dequantize_row(w.matrix, static_cast<int64_t>(r), row);
      double size = 0;
      for (size_t c = 0; c < kCols; ++c)
        size +=
            std::fabs(static_cast<double>(row[c]) * static_cast<double>(quantised[t * kCols + c]));
      EXPECT_NEAR(out[t * kRows + r], expected[t * kRows + r], test::kSum * size);
    }
  }
}

// HW-5: another result than the exact product, by some percent of its size.
TEST(W4A4, DiffersFromTheExactProduct) {
  constexpr int64_t kRows = 16;
  constexpr int64_t kCols = 512;
  const Stored w = stored(random_values(kRows * kCols, 4), kRows, kCols, 4.0F / 2688.0F);
  std::vector<float> x = random_values(kCols, 5);
  std::vector<float> out(kRows);
  std::vector<float> exact(kRows);
  linear_w4a4(view(out, 1, kRows), view(x, 1, kCols), w.matrix);
  make_ref_backend()->linear(view(exact, 1, kRows), view(x, 1, kCols), w.matrix);
  double difference = 0;
  double size = 0;
  for (size_t r = 0; r < kRows; ++r) {
    difference += std::pow(static_cast<double>(out[r] - exact[r]), 2);
    size += std::pow(static_cast<double>(exact[r]), 2);
  }
  EXPECT_GT(std::sqrt(difference / size), 0.02);
  EXPECT_LT(std::sqrt(difference / size), 0.3);
}

}  // namespace
}  // namespace facet::ref
