#include "model/gemma4/random_values.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <gtest/gtest.h>
#include <set>

#include "quant/float_formats.h"

namespace facet::gemma4 {
namespace {

constexpr Law kStandard = {Law::Shape::kNormal, 0.0, 1.0};

std::vector<std::byte> drawn(const RandomTable& table, uint64_t key, int64_t draws) {
  std::vector<std::byte> bytes(static_cast<size_t>(draws * table.draw_bytes()));
  table.fill(key, 0, bytes);
  return bytes;
}

std::vector<double> bf16_values(const std::vector<std::byte>& bytes) {
  std::vector<double> values;
  for (size_t i = 0; i < bytes.size(); i += 2) {
    uint16_t bits = 0;
    std::memcpy(&bits, bytes.data() + i, 2);
    values.push_back(bf16_to_float(bits));
  }
  return values;
}

/// Mean of value^power.
double moment(const std::vector<double>& values, int32_t power) {
  double sum = 0;
  for (const double value : values) sum += std::pow(value, power);
  return sum / static_cast<double>(values.size());
}

TEST(RandomTable, NormalDrawsHaveNormalMoments) {
  const RandomTable table(DType::kBF16, {Law::Shape::kNormal, 0.5, 2.0});
  std::vector<double> values = bf16_values(drawn(table, 1, 400000));
  EXPECT_NEAR(moment(values, 1), 0.5, 0.02);  // 6 standard errors
  for (double& value : values) value = (value - 0.5) / 2.0;
  EXPECT_NEAR(moment(values, 2), 1.0, 0.015);
  EXPECT_NEAR(moment(values, 3), 0.0, 0.04);
  EXPECT_NEAR(moment(values, 4), 3.0, 0.1);
  EXPECT_NEAR(table.rms(), std::sqrt(0.25 + 4.0), 0.001);
}

TEST(RandomTable, UniformDrawsStayWithinTheirSpread) {
  const RandomTable table(DType::kBF16, {Law::Shape::kUniform, 1.0, 0.25});
  const std::vector<double> values = bf16_values(drawn(table, 2, 100000));
  const auto [least, most] = std::minmax_element(values.begin(), values.end());
  EXPECT_GE(*least, 0.75);
  EXPECT_LE(*most, 1.25);
  EXPECT_NEAR(moment(values, 1), 1.0, 0.003);
}

TEST(RandomTable, NeighboursAreNotCorrelated) {
  const std::vector<double> values =
      bf16_values(drawn(RandomTable(DType::kBF16, kStandard), 3, 400000));
  for (const size_t lag : {1, 2, 3, 4, 8, 64}) {
    double sum = 0;
    for (size_t i = lag; i < values.size(); ++i) sum += values[i] * values[i - lag];
    EXPECT_NEAR(sum / static_cast<double>(values.size()), 0.0, 0.01) << lag;
  }
}

TEST(RandomTable, CodesCoverTheirFormatWithoutNan) {
  std::set<int> e2m1;
  const RandomTable fours(DType::kU8, {Law::Shape::kNormal, 0.0, 2.9});
  double squares = 0;
  for (const std::byte byte : drawn(fours, 4, 100000)) {
    e2m1.insert(std::to_integer<int>(byte & std::byte{15}));
    e2m1.insert(std::to_integer<int>(byte >> 4));
    const double low = kE2m1Values[std::to_integer<size_t>(byte & std::byte{15})];
    squares += low * low / 100000;
  }
  EXPECT_GE(e2m1.size(), 15u);  // all but, perhaps, -0
  EXPECT_NEAR(std::sqrt(squares), fours.rms(), 0.05);

  std::set<int> e4m3;
  for (const std::byte byte :
       drawn(RandomTable(DType::kF8E4M3, {Law::Shape::kNormal, 0.0, 400.0}), 5, 100000)) {
    ASSERT_NE(std::to_integer<int>(byte & std::byte{0x7f}), 0x7f);
    e4m3.insert(std::to_integer<int>(byte));
  }
  EXPECT_GT(e4m3.size(), 100u);

  std::set<int> int4;
  for (const std::byte byte :
       drawn(RandomTable(DType::kI32, {Law::Shape::kNormal, 0.0, 3.1}), 6, 10000)) {
    int4.insert(std::to_integer<int>(byte & std::byte{15}));
  }
  EXPECT_EQ(int4.size(), 16u);
}

TEST(RandomTable, PiecesAreTheWhole) {
  for (const DType dtype : {DType::kBF16, DType::kU8}) {
    const RandomTable table(dtype, kStandard);
    constexpr int64_t kCount = 1003;
    const std::vector<std::byte> whole = drawn(table, 7, kCount);
    std::vector<std::byte> pieces;
    for (int64_t at = 0; at < kCount; at += 36) {
      std::vector<std::byte> piece(
          static_cast<size_t>(std::min<int64_t>(36, kCount - at) * table.draw_bytes()));
      table.fill(7, at, piece);
      pieces.insert(pieces.end(), piece.begin(), piece.end());
    }
    EXPECT_EQ(pieces, whole);
    EXPECT_NE(drawn(table, 8, kCount), whole);
  }
}

TEST(RandomKey, DependsOnSeedAndName) {
  const std::set<uint64_t> keys = {random_key(0, "a"), random_key(1, "a"), random_key(0, "b"),
                                   random_key(1, "b"), random_key(0, "")};
  EXPECT_EQ(keys.size(), 5u);
  double sum = 0;
  for (uint64_t i = 0; i < 10000; ++i) {
    const double unit = random_unit(i);
    ASSERT_GE(unit, 0.0);
    ASSERT_LT(unit, 1.0);
    sum += unit;
  }
  EXPECT_NEAR(sum / 10000, 0.5, 0.02);
}

}  // namespace
}  // namespace facet::gemma4
