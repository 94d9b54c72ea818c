#include "base/large_vector.h"

#include <cstdint>
#include <gtest/gtest.h>
#include <numeric>

namespace facet {
namespace {

TEST(LargeVector, HoldsWhatAVectorHoldsAtAnySize) {
  for (const size_t count : {size_t{0}, size_t{1}, size_t{1000}, size_t{1} << 20}) {
    LargeVector<uint32_t> values(count);
    std::iota(values.begin(), values.end(), 7U);
    const LargeVector<uint32_t> copy = values;
    values.push_back(9);
    for (size_t i = 0; i < count; ++i) ASSERT_EQ(copy[i], 7U + i);
    EXPECT_EQ(values.size(), count + 1);
    EXPECT_EQ(values.back(), 9U);
  }
}

TEST(LargeVector, BigOnesStartAtALargePage) {
  const LargeVector<char> values(size_t{5} << 20);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(values.data()) % (size_t{2} << 20), 0U);
}

TEST(LargeVector, MoreThanThereIsIsBadAlloc) {
  EXPECT_THROW(allocate_large(SIZE_MAX), std::bad_alloc);
  EXPECT_THROW(allocate_large(SIZE_MAX / 2), std::bad_alloc);
}

}  // namespace
}  // namespace facet
