#include "quant/weight_matrix.h"

#include <array>
#include <cstring>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <random>
#include <vector>

#include "quant/float_formats.h"

namespace facet {
namespace {

using testing::ElementsAre;

struct Case {
  WeightFormat format;
  int64_t rows;
  int64_t cols;
  DType scale_dtype;
  int64_t scale_rows;
  int64_t scale_cols;
  int32_t group_size;
  int64_t row_bytes;
};

constexpr std::array<Case, 11> kCases = {{
    {WeightFormat::kF32, 5, 7, DType::kF32, 0, 0, 0, 28},
    {WeightFormat::kF16, 5, 7, DType::kF32, 0, 0, 0, 14},
    {WeightFormat::kBF16, 5, 7, DType::kF32, 0, 0, 0, 14},
    {WeightFormat::kFp8, 5, 7, DType::kBF16, 5, 1, 0, 7},
    {WeightFormat::kFp8, 5, 7, DType::kF32, 1, 1, 0, 7},
    {WeightFormat::kFp8Block, 300, 130, DType::kF32, 3, 2, 0, 130},
    {WeightFormat::kNvfp4, 5, 48, DType::kF8E4M3, 5, 3, 16, 24},
    {WeightFormat::kInt4Group, 5, 64, DType::kBF16, 5, 2, 32, 32},
    {WeightFormat::kInt4Group, 5, 256, DType::kF16, 5, 2, 128, 128},
    {WeightFormat::kInt8Group, 5, 128, DType::kBF16, 5, 2, 64, 128},
    {WeightFormat::kInt8Group, 5, 70, DType::kF32, 5, 3, 32, 70},
}};

// A matrix of random bytes at odd addresses.
class Stored {
 public:
  explicit Stored(const Case& c)
      : data_(random_bytes(1 + c.rows * c.row_bytes)),
        scales_(random_bytes(1 + c.scale_rows * c.scale_cols * bits_of(c.scale_dtype) / 8)) {
    matrix_.format = c.format;
    matrix_.rows = c.rows;
    matrix_.cols = c.cols;
    matrix_.data = data_.data() + 1;
    matrix_.scales = c.scale_rows == 0 ? nullptr : scales_.data() + 1;
    matrix_.scale_dtype = c.scale_dtype;
    matrix_.scale_rows = c.scale_rows;
    matrix_.group_size = c.group_size;
    matrix_.global_scale = 0.3F;
  }
  const WeightMatrix& matrix() const { return matrix_; }

 private:
  static std::vector<std::byte> random_bytes(int64_t count) {
    std::mt19937 random(static_cast<uint32_t>(count));
    std::vector<std::byte> bytes(static_cast<size_t>(count));
    for (std::byte& byte : bytes)
      byte = static_cast<std::byte>(random() & 0xbfu);  // no NaN in any format
    return bytes;
  }

  std::vector<std::byte> data_;
  std::vector<std::byte> scales_;
  WeightMatrix matrix_;
};

std::vector<float> row_of(const WeightMatrix& matrix, int64_t row) {
  std::vector<float> out(static_cast<size_t>(matrix.cols));
  dequantize_row(matrix, row, out);
  return out;
}

// The table of weight_matrix.h, element by element.
float element(const WeightMatrix& m, int64_t r, int64_t c) {
  const auto nibble = [&] {
    const int byte = std::to_integer<int>(m.data[r * (m.cols / 2) + c / 2]);
    return c % 2 == 0 ? byte & 15 : byte >> 4;
  };
  switch (m.format) {
    case WeightFormat::kF32:
      return read_float(m.data, DType::kF32, r * m.cols + c);
    case WeightFormat::kF16:
      return read_float(m.data, DType::kF16, r * m.cols + c);
    case WeightFormat::kBF16:
      return read_float(m.data, DType::kBF16, r * m.cols + c);
    case WeightFormat::kFp8:
      return read_float(m.data, DType::kF8E4M3, r * m.cols + c) *
             read_float(m.scales, m.scale_dtype, m.scale_rows == 1 ? 0 : r);
    case WeightFormat::kFp8Block:
      return read_float(m.data, DType::kF8E4M3, r * m.cols + c) *
             read_float(m.scales, m.scale_dtype, r / 128 * ((m.cols + 127) / 128) + c / 128);
    case WeightFormat::kNvfp4: {
      const float scale = read_float(m.scales, DType::kF8E4M3, r * (m.cols / 16) + c / 16);
      return kE2m1Values[static_cast<size_t>(nibble())] * scale * m.global_scale;
    }
    case WeightFormat::kInt4Group:
      return static_cast<float>(nibble() - 8) *
             read_float(m.scales, m.scale_dtype, r * (m.cols / m.group_size) + c / m.group_size);
    case WeightFormat::kInt8Group: {
      const int64_t per_row = (m.cols + m.group_size - 1) / m.group_size;
      const int byte = std::to_integer<int>(m.data[r * m.cols + c]);
      return static_cast<float>(byte < 128 ? byte : byte - 256) *
             read_float(m.scales, m.scale_dtype, r * per_row + c / m.group_size);
    }
  }
  return 0;
}

class WeightMatrixOf : public testing::TestWithParam<Case> {};

TEST_P(WeightMatrixOf, DequantizesEveryElementByTheTable) {
  const Stored stored(GetParam());
  const WeightMatrix& matrix = stored.matrix();
  for (int64_t r = 0; r < matrix.rows; ++r) {
    const std::vector<float> row = row_of(matrix, r);
    for (int64_t c = 0; c < matrix.cols; ++c) {
      ASSERT_EQ(row[static_cast<size_t>(c)], element(matrix, r, c)) << r << ", " << c;
    }
  }
}

TEST_P(WeightMatrixOf, CountsItsBytes) {
  const Case& c = GetParam();
  const Stored stored(c);
  EXPECT_EQ(row_bytes(stored.matrix()), c.row_bytes);
  EXPECT_EQ(scale_cols(stored.matrix()), c.scale_cols);
  const int64_t scales = c.scale_rows * c.scale_cols * bits_of(c.scale_dtype) / 8;
  EXPECT_EQ(scale_bytes(stored.matrix()), scales);
  EXPECT_EQ(stored_bytes(stored.matrix()),
            c.rows * c.row_bytes + scales + (c.format == WeightFormat::kNvfp4 ? 4 : 0));
}

TEST_P(WeightMatrixOf, SlicesHoldTheSameRows) {
  const Case& c = GetParam();
  const Stored stored(c);
  const int64_t begin = c.format == WeightFormat::kFp8Block ? 128 : 2;
  for (const int64_t count : {int64_t{0}, int64_t{1}, c.rows - begin}) {
    const WeightMatrix slice = slice_rows(stored.matrix(), begin, count);
    ASSERT_EQ(slice.rows, count);
    for (int64_t r = 0; r < count; ++r)
      EXPECT_EQ(row_of(slice, r), row_of(stored.matrix(), begin + r));
  }
  const WeightMatrix all = slice_rows(stored.matrix(), 0, c.rows);
  EXPECT_EQ(stored_bytes(all), stored_bytes(stored.matrix()));
  EXPECT_EQ(row_of(slice_rows(slice_rows(all, begin, 2), 0, 1), 0), row_of(all, begin));
}

INSTANTIATE_TEST_SUITE_P(Formats, WeightMatrixOf, testing::ValuesIn(kCases), [](const auto& info) {
  std::string name(to_string(info.param.format));
  std::erase(name, ' ');
  return name + "_" + std::to_string(info.index);
});

TEST(WeightMatrix, ASliceOfOneRowKeepsThatRowsFp8Scale) {
  const std::array<std::byte, 3> values = {std::byte{0x38}, std::byte{0x38}, std::byte{0x38}};
  const std::array<float, 3> scales = {1.0F, 2.0F, 3.0F};
  WeightMatrix matrix;
  matrix.format = WeightFormat::kFp8;
  matrix.rows = 3;
  matrix.cols = 1;
  matrix.data = values.data();
  matrix.scales = reinterpret_cast<const std::byte*>(scales.data());
  matrix.scale_rows = 3;
  EXPECT_THAT(row_of(slice_rows(matrix, 2, 1), 0), ElementsAre(3.0F));
  EXPECT_EQ(slice_rows(matrix, 2, 1).scale_rows, 1);
  EXPECT_EQ(scale_bytes(slice_rows(matrix, 1, 2)), 8);
}

TEST(WeightMatrixDeathTest, RefusesRowsItDoesNotHave) {
  const Stored stored(kCases[5]);
  std::vector<float> out(130);
  EXPECT_DEATH(dequantize_row(stored.matrix(), 300, out), "row 300");
  EXPECT_DEATH(dequantize_row(stored.matrix(), -1, out), "row -1");
  out.resize(129);
  EXPECT_DEATH(dequantize_row(stored.matrix(), 0, out), "129");
  EXPECT_DEATH(slice_rows(stored.matrix(), 0, 301), "301");
  EXPECT_DEATH(slice_rows(stored.matrix(), 64, 10), "cuts a block");
}

TEST(WeightFormat, EveryFormatHasAName) {
  EXPECT_EQ(to_string(WeightFormat::kF32), "F32");
  EXPECT_EQ(to_string(WeightFormat::kF16), "F16");
  EXPECT_EQ(to_string(WeightFormat::kBF16), "BF16");
  EXPECT_EQ(to_string(WeightFormat::kFp8), "FP8");
  EXPECT_EQ(to_string(WeightFormat::kFp8Block), "FP8 block");
  EXPECT_EQ(to_string(WeightFormat::kNvfp4), "NVFP4");
  EXPECT_EQ(to_string(WeightFormat::kInt4Group), "INT4");
  EXPECT_EQ(to_string(WeightFormat::kInt8Group), "INT8");
}

}  // namespace
}  // namespace facet
