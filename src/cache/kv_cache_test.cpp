#include "cache/kv_cache.h"

#include <gtest/gtest.h>
#include <random>

namespace facet {
namespace {

constexpr int32_t kPage = 4;

std::vector<KvGroupSpec> two_groups(int32_t window) {
  const KvLayout layout = {1, 2, kPage, DType::kF32};
  return {{2, layout, window}, {1, layout, 0}};
}

TEST(KvCache, SlidingPagesAreGivenBackDuringDecode) {
  KvCache cache(two_groups(8), {10, 10}, host_allocator());
  const CacheSlot slot = cache.open();
  for (int32_t step = 0; step < 36; ++step) {
    ASSERT_TRUE(cache.reserve(slot, 1)) << step;
    cache.advance(slot, 1);
    cache.check_integrity();
    // The last row saw 8 positions: at most three pages of four hold them.
    EXPECT_GE(cache.free_pages(0), 10 - 3) << step;
  }
  EXPECT_EQ(cache.free_pages(1), 10 - 9);
  cache.close(slot);
  EXPECT_EQ(cache.free_pages(0), 10);
  EXPECT_EQ(cache.free_pages(1), 10);
}

TEST(KvCache, EveryVisiblePositionKeepsItsPage) {
  constexpr int32_t kWindow = 6;
  KvCache cache(two_groups(kWindow), {40, 40}, host_allocator());
  const CacheSlot slot = cache.open();
  for (const int32_t rows : {1, 7, 3, 1, 1, 12, 2, 1}) {
    const int32_t length = cache.length(slot);
    ASSERT_TRUE(cache.reserve(slot, rows));
    const CacheSlot slots[] = {slot};
    const std::vector<KvView> views = cache.views(slots);
    ASSERT_EQ(views.size(), 3u);
    for (int32_t p = std::max(0, length - kWindow + 1); p < length + rows; ++p) {
      EXPECT_NE(views[0].page_tables[0][static_cast<size_t>(p / kPage)], kNoPage) << p;
    }
    for (int32_t p = 0; p < length + rows; ++p) {
      EXPECT_NE(views[2].page_tables[0][static_cast<size_t>(p / kPage)], kNoPage) << p;
    }
    cache.advance(slot, rows);
  }
}

TEST(KvCache, PagesForBoundsWhatASequenceHolds) {
  for (const int32_t window : {1, 5, 8, 16}) {
    for (const int32_t chunk : {1, 3, 8, 20}) {
      const auto groups = two_groups(window);
      const int32_t wanted = KvCache::pages_for(groups[0], 100, chunk);
      KvCache cache(groups, {wanted, KvCache::pages_for(groups[1], 100, chunk)}, host_allocator());
      const CacheSlot slot = cache.open();
      for (int32_t done = 0; done < 100; done += chunk) {
        const int32_t rows = std::min(chunk, 100 - done);
        ASSERT_TRUE(cache.reserve(slot, rows)) << "window " << window << " chunk " << chunk;
        cache.advance(slot, rows);
      }
    }
  }
}

TEST(KvCache, ShortPoolChangesNothing) {
  KvCache cache(two_groups(8), {4, 2}, host_allocator());
  const CacheSlot slot = cache.open();
  ASSERT_TRUE(cache.reserve(slot, 4));
  cache.advance(slot, 4);
  EXPECT_FALSE(cache.reserve(slot, 5)) << "the full group has one page left";
  cache.check_integrity();
  EXPECT_EQ(cache.free_pages(0), 3);
  EXPECT_TRUE(cache.reserve(slot, 4));
}

TEST(KvCache, RandomHistoriesKeepEveryPageAccountedFor) {
  for (uint32_t seed = 0; seed < 300; ++seed) {
    std::mt19937 random(seed);
    const auto upto = [&](int32_t n) {
      return static_cast<int32_t>(random() % static_cast<uint32_t>(n));
    };
    KvCache cache(two_groups(1 + upto(12)), {5 + upto(20), 5 + upto(20)}, host_allocator());
    std::vector<CacheSlot> open;
    for (int32_t action = 0; action < 60; ++action) {
      if (open.empty() || upto(5) == 0) {
        open.push_back(cache.open());
      } else if (upto(6) == 0) {
        const auto victim = open.begin() + upto(static_cast<int32_t>(open.size()));
        cache.close(*victim);
        open.erase(victim);
      } else {
        const CacheSlot slot = open[static_cast<size_t>(upto(static_cast<int32_t>(open.size())))];
        const int32_t rows = 1 + upto(9);
        if (cache.reserve(slot, rows)) cache.advance(slot, rows);
      }
      cache.check_integrity();
    }
  }
}

}  // namespace
}  // namespace facet
