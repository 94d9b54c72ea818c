#include "engine/page_plan.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace facet {
namespace {

/// Pages of 1 KiB in the sliding group and of 512 bytes in the full one.
std::vector<KvGroupSpec> groups() {
  const KvLayout layout = {1, 8, 16, DType::kF32};
  return {{1, layout, 64}, {1, {1, 4, 16, DType::kF32}, 0}};
}

int64_t bytes_of(const std::vector<int32_t>& pages) { return pages[0] * 1024 + pages[1] * 512; }

TEST(PagePlan, EverythingFitsIfThereIsRoom) {
  const PageNeeds needs = {1000, 4, 32, 31};
  const std::vector<int32_t> pages = plan_pages(groups(), int64_t{1} << 30, needs);
  EXPECT_EQ(longest_sequence(groups(), pages, needs), 1000);
  EXPECT_EQ(pages[0], 2 * 4 * pages_of_sequence(groups()[0], 1000, needs));
  EXPECT_EQ(pages[1], 2 * 4 * 63) << "no more than can be used";
}

TEST(PagePlan, TheBytesAreSpentAndNotMore) {
  const PageNeeds needs = {100'000, 64, 32, 31};
  for (const int64_t bytes : {100'000, 1'000'000, 3'000'000}) {
    const std::vector<int32_t> pages = plan_pages(groups(), bytes, needs);
    EXPECT_LE(bytes_of(pages), bytes);
    EXPECT_GT(bytes_of(pages), bytes - 2048);
    EXPECT_LE(pages[0] * 1024, bytes / 2);
    EXPECT_GE(pages[0], pages_of_sequence(groups()[0], 100'000, needs));
  }
}

TEST(PagePlan, LittleMemoryShortensSequencesAndNoneIsRefused) {
  const PageNeeds needs = {100'000, 64, 32, 31};
  const std::vector<int32_t> pages = plan_pages(groups(), 20'000, needs);
  EXPECT_EQ(longest_sequence(groups(), pages, needs), pages[1] * 16);
  EXPECT_THROW(plan_pages(groups(), 5'000, needs), Error);
}

}  // namespace
}  // namespace facet
