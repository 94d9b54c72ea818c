// Rotation of pairs (i, i + D/2).

#include <bit>
#include <cmath>

#include "tests/ops/op_test.h"

namespace facet::test {
namespace {

class RopeTest : public OpTest {
 protected:
  /// Runs the op and holds every component against the definition. The angle is the float32 product
  /// of rope.h; its cos and sin are exact here.
  void check(const RopeTable& table, int64_t heads, const std::vector<int32_t>& positions) {
    const int64_t d = table.head_dim;
    const int64_t half = d / 2;
    const Tensor before =
        Tensor::random({static_cast<int64_t>(positions.size()), heads, d}, 41, 2.0F);
    Tensor x = before;
    be().rope(x.view(), positions, table);
    for (int64_t row = 0; row < before.elements() / d; ++row) {
      const int32_t position = positions[static_cast<size_t>(row / heads)];
      for (int64_t i = 0; i < half; ++i) {
        const int64_t at = row * d + i;
        const bool rotates = i < static_cast<int64_t>(table.frequencies.size());
        if (!rotates) {
          ASSERT_EQ(x[at], before[at]) << "component " << i << " must not rotate";
          ASSERT_EQ(x[at + half], before[at + half]) << "nor component " << i + half;
          continue;
        }
        const float angle =
            static_cast<float>(position) * table.frequencies[static_cast<size_t>(i)];
        const double c = std::cos(static_cast<double>(angle));
        const double s = std::sin(static_cast<double>(angle));
        const double first = before[at];
        const double second = before[at + half];
        const double size = std::abs(first) + std::abs(second);
        ASSERT_NEAR(x[at], first * c - second * s, kRotation * size) << position << " " << i;
        ASSERT_NEAR(x[at + half], second * c + first * s, kRotation * size) << position << " " << i;
      }
    }
  }
};

TEST_P(RopeTest, QuarterTurnByHand) {
  RopeTable table;
  table.head_dim = 4;
  table.frequencies = {1.5707963F, 3.1415927F};
  Tensor x({1, 1, 4}, {1, 2, 3, 4});
  const std::vector<int32_t> positions = {1};
  be().rope(x.view(), positions, table);
  EXPECT_NEAR(x[0], -3, 1e-6);  // (1, 3) turned by 90 degrees
  EXPECT_NEAR(x[2], 1, 1e-6);
  EXPECT_NEAR(x[1], -2, 1e-6);  // (2, 4) by 180
  EXPECT_NEAR(x[3], -4, 1e-6);
}

TEST_P(RopeTest, PositionZeroChangesNothing) {
  const Tensor before = Tensor::random({1, 3, 64}, 42);
  Tensor x = before;
  const std::vector<int32_t> positions = {0};
  be().rope(x.view(), positions, make_rope_table(64, 1e4, 32));
  for (int64_t i = 0; i < x.elements(); ++i) EXPECT_EQ(x[i], before[i]);
}

TEST_P(RopeTest, SlidingLayersRotateEveryPair) {
  check(make_rope_table(256, 1e4, 128), 3, {0, 1, 2, 1023, 1024, 50000});
}

// Components 0-63 and 256-319 of 512, in pairs (i, i + 256); the rest pass.
TEST_P(RopeTest, ProportionalRotatesSixtyFourPairsOfTheWholeHead) {
  const RopeTable table = make_rope_table(512, 1e6, 64);
  ASSERT_EQ(table.frequencies.size(), 64u);
  EXPECT_NEAR(table.frequencies[63], std::pow(1e6, -126.0 / 512.0), 1e-7);
  check(table, 2, {1, 7, 4095});

  const Tensor before = Tensor::random({1, 1, 512}, 43);
  Tensor x = before;
  const std::vector<int32_t> positions = {3};
  be().rope(x.view(), positions, table);
  for (int64_t i = 0; i < 512; ++i) {
    const bool rotates = i < 64 || (i >= 256 && i < 320);
    EXPECT_EQ(x[i] != before[i], rotates) << i;
  }
}

// The far end of the context: cos and sin of angles up to 262143.
TEST_P(RopeTest, LastPositionsOfTheContext) {
  check(make_rope_table(256, 1e4, 128), 1, {131071, 200003, 262142, 262143});
  check(make_rope_table(512, 1e6, 64), 1, {131071, 200003, 262142, 262143});
}

TEST_P(RopeTest, AwkwardHeads) {
  for (const int32_t d : {2, 6, 16, 34, 112}) {
    check(make_rope_table(d, 1e4, d / 2), 5, {0, 5, 6, 7, 300, 9, 2});
    check(make_rope_table(d, 1e4, d / 4), 1, {1});
    check(make_rope_table(d, 1e4, 0), 2, {77});
  }
}

INSTANTIATE_TEST_SUITE_P(Backends, RopeTest, testing::ValuesIn(backends()), backend_name);

}  // namespace
}  // namespace facet::test
