#include "base/histogram.h"

#include <array>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <thread>

namespace facet {
namespace {

using testing::ElementsAre;

constexpr std::array kBorders = {0.5, 1.0, 2.0};

TEST(Histogram, BordersBelongToTheBucketBelow) {
  Histogram histogram(kBorders);
  for (const double value : {0.0, 0.5, 0.75, 1.0, 2.0, 2.5, 100.0}) histogram.observe(value);
  const Histogram::Snapshot seen = histogram.snapshot();
  EXPECT_THAT(seen.counts, ElementsAre(2, 2, 1, 2));
  EXPECT_EQ(seen.count(), 7);
  EXPECT_DOUBLE_EQ(seen.sum, 106.75);
  EXPECT_EQ(seen.borders.data(), kBorders.data());
}

TEST(Histogram, IsReadWhileItIsWritten) {
  Histogram histogram(kBorders);
  std::jthread writer([&] {
    for (int i = 0; i < 100000; ++i) histogram.observe(1.5);
  });
  int64_t last = 0;
  while (last < 100000) {
    const int64_t now = histogram.snapshot().count();
    ASSERT_GE(now, last);
    last = now;
  }
  writer.join();
  EXPECT_DOUBLE_EQ(histogram.snapshot().sum, 150000);
}

}  // namespace
}  // namespace facet
