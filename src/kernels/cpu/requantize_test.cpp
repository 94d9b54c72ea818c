#include "kernels/cpu/requantize.h"

#include <cmath>
#include <gtest/gtest.h>
#include <limits>

#include "kernels/cpu/test_matrix.h"
#include "quant/int8.h"
#include "quant/nvfp4.h"

namespace facet::cpu {
namespace {

using test::random_floats;

/// Weights of every size: blocks of zeros, of tiny and of large numbers, and one with an outlier.
std::vector<float> hard_weights(int64_t count, uint32_t seed) {
  std::vector<float> w = random_floats(count, seed);
  for (size_t i = 0; i < w.size(); ++i) {
    const size_t block = i / 16;
    if (block % 7 == 1) w[i] = 0.0F;
    if (block % 7 == 2) w[i] *= 1e-6F;
    if (block % 7 == 3) w[i] *= 20.0F;
    if (block % 7 == 4 && i % 16 == 5) w[i] = 30.0F;
    if (block % 7 == 5) w[i] = std::round(w[i] * 4.0F) / 8.0F;  // many ties
  }
  return w;
}

WeightMatrix plain(const std::vector<float>& w, int64_t rows, int64_t cols) {
  WeightMatrix matrix;
  matrix.format = WeightFormat::kF32;
  matrix.rows = rows;
  matrix.cols = cols;
  matrix.data = reinterpret_cast<const std::byte*>(w.data());
  return matrix;
}

TEST(Requantize, KernelsWriteTheBytesOfTheScalarEncoders) {
  for (const Isa isa : supported_isas()) {
    const KernelTable kernels = kernel_table(isa);
    for (const int64_t cols : {16, 48, 112, 704, 2816}) {
      const std::vector<float> w = hard_weights(cols, static_cast<uint32_t>(cols));
      const auto size = static_cast<size_t>(cols);
      for (const float global : {30.0F / 2688, 0x1p-100F, 1.0F}) {
        std::vector<uint8_t> codes(size / 2);
        std::vector<uint8_t> scales(size / 16);
        std::vector<uint8_t> wanted_codes(size / 2);
        std::vector<uint8_t> wanted_scales(size / 16);
        kernels.encode_nvfp4(w.data(), cols, global, codes.data(), scales.data());
        encode_nvfp4_row(w, global, wanted_codes, wanted_scales);
        EXPECT_EQ(scales, wanted_scales) << to_string(isa) << " " << cols << " " << global;
        EXPECT_EQ(codes, wanted_codes) << to_string(isa) << " " << cols << " " << global;
      }
      for (const int64_t short_cols : {cols, cols - 3}) {
        const auto part = static_cast<size_t>(short_cols);
        std::vector<int8_t> codes(part);
        std::vector<int8_t> wanted_codes(part);
        std::vector<uint16_t> scales((part + 63) / 64);
        std::vector<uint16_t> wanted_scales((part + 63) / 64);
        kernels.encode_int8(w.data(), short_cols, 64, codes.data(), scales.data());
        encode_int8_row(std::span(w).first(part), 64, wanted_codes, wanted_scales);
        EXPECT_EQ(scales, wanted_scales) << to_string(isa) << " " << short_cols;
        EXPECT_EQ(codes, wanted_codes) << to_string(isa) << " " << short_cols;
      }
    }
  }
}

/// Relative squared error of a matrix after encoding and decoding.
double loss(const std::vector<float>& w, int64_t rows, int64_t cols, WeightFormat format) {
  const WeightMatrix from = plain(w, rows, cols);
  WeightMatrix to = *Requantizer::plan(from, format);
  std::vector<std::byte> codes(static_cast<size_t>(to.rows * row_bytes(to)));
  std::vector<std::byte> scales(static_cast<size_t>(scale_bytes(to)));
  Requantizer requantizer({.threads = 3});
  const auto global = requantizer.encode(from, to, codes.data(), scales.data());
  EXPECT_TRUE(global.has_value());
  to.data = codes.data();
  to.scales = scales.data();
  to.global_scale = *global;
  std::vector<float> row(static_cast<size_t>(cols));
  double error = 0;
  double size = 0;
  for (int64_t r = 0; r < rows; ++r) {
    dequantize_row(to, r, row);
    for (int64_t c = 0; c < cols; ++c) {
      const float value = w[static_cast<size_t>(r * cols + c)];
      const double difference = row[static_cast<size_t>(c)] - value;
      error += difference * difference;
      size += static_cast<double>(value) * value;
    }
  }
  return error / size;
}

TEST(Requantize, LosesWhatTheFormatMustLose) {
  const std::vector<float> w = random_floats(64 * 512, 3);
  const double int8 = loss(w, 64, 512, WeightFormat::kInt8Group);
  // A step of amax / 127 with amax about 2.6 sigma: (2.6 / 127)² / 12.
  EXPECT_GT(int8, 1e-5);
  EXPECT_LT(int8, 7e-5);
  const double nvfp4 = loss(w, 64, 512, WeightFormat::kNvfp4);
  const Nvfp4Matrix rule = quantize_nvfp4(w, 64, 512);
  std::vector<float> row(512);
  double rule_error = 0;
  double size = 0;
  for (size_t r = 0; r < 64; ++r) {
    decode_nvfp4_row(std::as_bytes(std::span(rule.codes)).data() + r * 256,
                     std::as_bytes(std::span(rule.scales)).data() + r * 32, rule.global_scale, row);
    for (size_t c = 0; c < 512; ++c) {
      const double difference = row[c] - w[r * 512 + c];
      rule_error += difference * difference;
      size += static_cast<double>(w[r * 512 + c]) * w[r * 512 + c];
    }
  }
  // The search wins about a quarter over the producers' rule.
  EXPECT_LT(nvfp4, 0.8 * rule_error / size);
  EXPECT_GT(nvfp4, 0.5 * rule_error / size);
}

TEST(Requantize, WhatCannotBeEncodedIsSaid) {
  std::vector<float> w = random_floats(4 * 48, 5);
  EXPECT_FALSE(Requantizer::plan(plain(w, 8, 24), WeightFormat::kNvfp4).has_value());
  EXPECT_TRUE(Requantizer::plan(plain(w, 8, 24), WeightFormat::kInt8Group).has_value());
  EXPECT_FALSE(Requantizer::plan({}, WeightFormat::kInt8Group).has_value());
  WeightMatrix fp8 = plain(w, 4, 48);
  fp8.format = WeightFormat::kFp8;
  EXPECT_FALSE(Requantizer::plan(fp8, WeightFormat::kNvfp4).has_value());
  Requantizer requantizer({.threads = 2});
  for (const float bad :
       {std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::quiet_NaN()}) {
    w[100] = bad;
    const WeightMatrix from = plain(w, 4, 48);
    for (const WeightFormat format : {WeightFormat::kNvfp4, WeightFormat::kInt8Group}) {
      const WeightMatrix to = *Requantizer::plan(from, format);
      std::vector<std::byte> codes(4 * 48);
      std::vector<std::byte> scales(256);
      EXPECT_FALSE(requantizer.encode(from, to, codes.data(), scales.data()).has_value());
    }
  }
}

}  // namespace
}  // namespace facet::cpu
