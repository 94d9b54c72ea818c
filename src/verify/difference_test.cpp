#include "verify/difference.h"

#include <cmath>
#include <gtest/gtest.h>
#include <limits>
#include <vector>

namespace facet {
namespace {

const std::vector<int32_t> kPositions = {7, 8};

Difference compare_two_rows(const std::vector<float>& found,
                            const std::vector<float>& wanted,
                            const std::vector<float>& before = {},
                            double factor = 1) {
  return compare(Rows{.found = found,
                      .wanted = wanted,
                      .before = before,
                      .before_factor = factor,
                      .positions = kPositions});
}

TEST(Difference, IsThatOfTheWorstRowHoweverSmallTheRow) {
  const Difference found = compare_two_rows({3000, 4000, 3.5F, 4}, {3000, 4000, 3, 4});
  EXPECT_DOUBLE_EQ(found.relative, 0.1);
  EXPECT_DOUBLE_EQ(found.largest, 0.5);
  EXPECT_EQ(found.position, 8);
  EXPECT_EQ(found.of_change, 0);
}

TEST(Difference, EqualRowsDifferByNothingEvenZeros) {
  const Difference found = compare_two_rows({0, 0, 1, 2}, {0, 0, 1, 2}, {0, 0, 0, 2});
  EXPECT_EQ(found.relative, 0);
  EXPECT_EQ(found.of_change, 0);
  EXPECT_EQ(found.largest, 0);
}

TEST(Difference, OfChangeIsHeldAgainstWhatThePartAdds) {
  // The first row: wanted 0.5 * 2000 + (3, 4), found off by 0.5.
  const Difference found =
      compare_two_rows({1003, 4.5F, 1, 1}, {1003, 4, 1, 1}, {2000, 0, 0, 0}, 0.5);
  EXPECT_NEAR(found.of_change, (0.5 - 0x1p-22 * std::hypot(1003, 4)) / 5, 1e-9);
  EXPECT_EQ(found.position, 7);
}

TEST(Difference, RoundingOfTheStreamIsNotCounted) {
  const float next = std::nextafter(1000.0F, 2000.0F);
  const Difference found = compare_two_rows({next, 0, 1, 1}, {1000, 0, 1, 1}, {1000, 1e-6F, 0, 0});
  EXPECT_GT(found.relative, 0);
  EXPECT_EQ(found.of_change, 0);
}

TEST(Difference, WhatIsNoNumberIsInfinitelyFar) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float infinite = std::numeric_limits<float>::infinity();
  for (const float odd : {nan, infinite}) {
    for (const bool in_both : {false, true}) {
      const Difference found =
          compare_two_rows({odd, 1, 1, 1}, {in_both ? odd : 1, 1, 1, 1}, {0, 0, 0, 0});
      EXPECT_TRUE(std::isinf(found.relative));
      EXPECT_TRUE(std::isinf(found.of_change));
      EXPECT_TRUE(std::isinf(found.largest));
      EXPECT_EQ(found.position, 7);
    }
  }
}

/// One row, two experts of four.
RoutingDifference route(const std::vector<int32_t>& found,
                        const std::vector<float>& found_weights,
                        const std::vector<float>& probabilities) {
  const std::vector<int32_t> wanted = {1, 2};
  const std::vector<float> wanted_weights = {0.6F, 0.4F};
  const std::vector<int32_t> position = {5};
  return compare(Routings{.found_experts = found,
                          .found_weights = found_weights,
                          .wanted_experts = wanted,
                          .wanted_weights = wanted_weights,
                          .probabilities = probabilities,
                          .positions = position},
                 1e-4);
}

TEST(RoutingDifference, SetsAreEqualInAnyOrder) {
  const RoutingDifference found = route({2, 1}, {0.4F, 0.66F}, {0.1F, 0.5F, 0.3F, 0.1F});
  EXPECT_EQ(found.rows, 1);
  EXPECT_EQ(found.equal, 1);
  EXPECT_EQ(found.ties, 0);
  EXPECT_NEAR(found.weight, 0.1, 1e-6);
}

TEST(RoutingDifference, AnExpertOfAsGoodAsEqualProbabilityIsATie) {
  for (const float near : {0.3F, 0.29999F, 0.30001F}) {
    const RoutingDifference found = route({1, 3}, {0.6F, 0.4F}, {0.1F, 0.5F, 0.3F, near});
    EXPECT_EQ(found.equal, 0) << near;
    EXPECT_EQ(found.ties, 1) << near;
  }
}

TEST(RoutingDifference, ALessProbableExpertIsNoTie) {
  const RoutingDifference found = route({1, 0}, {0.6F, 0.4F}, {0.2F, 0.5F, 0.25F, 0.05F});
  EXPECT_EQ(found.equal, 0);
  EXPECT_EQ(found.ties, 0);
  EXPECT_NEAR(found.gap, 0.2, 1e-6);
  EXPECT_EQ(found.position, 5);
}

TEST(RoutingDifference, ImpossibleExpertsAreNoTie) {
  const std::vector<float> even(4, 0.25F);
  for (const std::vector<int32_t>& odd :
       {std::vector<int32_t>{1, 1}, std::vector<int32_t>{1, 4}, std::vector<int32_t>{-1, 2}}) {
    const RoutingDifference found = route(odd, {0.6F, 0.4F}, even);
    EXPECT_TRUE(std::isinf(found.gap));
    EXPECT_EQ(found.equal + found.ties, 0);
  }
}

}  // namespace
}  // namespace facet
