#include "cache/kv_cache.h"

#include <algorithm>
#include <gtest/gtest.h>
#include <random>
#include <sys/mman.h>
#include <unistd.h>

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

/// Whether the system has found memory for K of each page of a layer, whose pages are its own.
std::vector<bool> pages_with_memory(const KvView& layer, int32_t pages) {
  std::vector<unsigned char> resident(static_cast<size_t>(pages));
  const auto page = static_cast<size_t>(page_elements(layer.layout) * 4);
  EXPECT_EQ(mincore(layer.k, page * resident.size(), resident.data()), 0);
  return {resident.begin(), resident.end()};
}

TEST(KvCache, FreePagesThatComeNextGetMemoryAhead) {
  constexpr int32_t kPages = 40;
  const KvLayout layout = {1, 256, kPage, DType::kF32};  // 4 KiB a page
  ASSERT_EQ(sysconf(_SC_PAGESIZE), 4096);
  KvCache cache({{2, layout, 0}}, {kPages}, host_allocator());
  const int64_t page = KvCache::page_bytes(cache.groups()[0]);
  const CacheSlot slot = cache.open();
  CacheViews views;
  const auto backed = [&] {
    const CacheSlot slots[] = {slot};
    cache.views(slots, views);
    const std::vector<bool> first = pages_with_memory(views.layers[0], kPages);
    EXPECT_EQ(first, pages_with_memory(views.layers[1], kPages));
    const auto count = std::count(first.begin(), first.end(), true);
    EXPECT_EQ(std::find(first.begin(), first.end(), false) - first.begin(), count);
    return count;
  };
  EXPECT_EQ(backed(), 0);
  EXPECT_TRUE(cache.populate_ahead(8 * page, 5));
  if (backed() == 0) GTEST_SKIP() << "this system finds memory at the first write only";
  EXPECT_EQ(backed(), 5);
  EXPECT_TRUE(cache.populate_ahead(8 * page, 5));
  EXPECT_EQ(backed(), 8);
  EXPECT_FALSE(cache.populate_ahead(8 * page, 5));
  ASSERT_TRUE(cache.grow(slot, 3 * kPage));
  EXPECT_TRUE(cache.populate_ahead(8 * page, 100));
  EXPECT_EQ(backed(), 3 + 8);
  cache.advance(slot, 3 * kPage);
  cache.close(slot);
  EXPECT_FALSE(cache.populate_ahead(8 * page, 100)) << "what was given back has its memory";
  EXPECT_TRUE(cache.populate_ahead(1000 * page, 100));
  EXPECT_FALSE(cache.populate_ahead(1000 * page, 100));
}

TEST(KvCache, EveryVisiblePositionKeepsItsPage) {
  constexpr int32_t kWindow = 6;
  KvCache cache(two_groups(kWindow), {40, 40}, host_allocator());
  const CacheSlot slot = cache.open();
  for (const int32_t rows : {1, 7, 3, 1, 1, 12, 2, 1}) {
    const int32_t length = cache.length(slot);
    ASSERT_TRUE(cache.reserve(slot, rows));
    const CacheSlot slots[] = {slot};
    CacheViews all;
    cache.views(slots, all);
    const std::vector<KvView>& views = all.layers;
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

/// The pages that a row at `position` sees before itself, as numbers, -1 for one that is gone.
std::vector<int32_t> pages_before(KvCache& cache,
                                  CacheSlot slot,
                                  int32_t position,
                                  int32_t window) {
  const CacheSlot slots[] = {slot};
  CacheViews all;
  cache.views(slots, all);
  const std::vector<KvView>& views = all.layers;
  std::vector<int32_t> pages;
  for (int32_t p = std::max(0, position - window + 1); p < position; ++p) {
    for (const size_t view : {size_t{0}, size_t{2}})
      pages.push_back(to_index(views[view].page_tables[0][static_cast<size_t>(p / kPage)]));
  }
  return pages;
}

void grow(KvCache& cache, CacheSlot slot, int32_t rows) {
  ASSERT_TRUE(cache.reserve(slot, rows));
  cache.advance(slot, rows);
  cache.check_integrity();
}

TEST(KvCache, RewindsToTheKeptPositionHoweverFarItGrew) {
  constexpr int32_t kWindow = 10;
  for (const int32_t kept : {1, 7, 8, 23, 24, 25}) {
    KvCache cache(two_groups(kWindow), {40, 40}, host_allocator());
    const CacheSlot slot = cache.open();
    cache.keep(slot, kept);
    grow(cache, slot, kept);
    const std::vector<int32_t> before = pages_before(cache, slot, kept, kWindow);
    for (int32_t step = 0; step < 60; ++step) grow(cache, slot, 1);
    EXPECT_GE(cache.free_pages(0), 40 - KvCache::pages_for(cache.groups()[0], 85, 1) -
                                       KvCache::pages_kept(cache.groups()[0]));
    EXPECT_GE(cache.rewindable(slot, kept + 20), kept);
    EXPECT_LT(cache.rewindable(slot, kept + 20), kept + kPage) << "what lies between is gone";
    EXPECT_EQ(cache.rewindable(slot, kept + 60), kept + 60);
    cache.rewind(slot, kept);
    cache.check_integrity();
    EXPECT_EQ(cache.length(slot), kept);
    EXPECT_EQ(pages_before(cache, slot, kept, kWindow), before);
    for (int32_t step = 0; step < 60; ++step) grow(cache, slot, 1);
    cache.keep(slot, 0);
    grow(cache, slot, 1);
    EXPECT_GE(cache.free_pages(0), 40 - 4) << "what was kept is given back";
  }
}

TEST(KvCache, WithoutKeepingOnlyTheLastPagesCanBeRewound) {
  KvCache cache(two_groups(8), {40, 40}, host_allocator());
  const CacheSlot slot = cache.open();
  for (int32_t step = 0; step < 40; ++step) grow(cache, slot, 1);
  // Before row 39 was written the window began at 32: the page from 32 is the first that is there.
  EXPECT_EQ(cache.rewindable(slot, 40), 40);
  EXPECT_EQ(cache.rewindable(slot, 39), 39);
  EXPECT_EQ(cache.rewindable(slot, 38), 0) << "its window begins at 31";
  cache.rewind(slot, 0);
  EXPECT_EQ(cache.free_pages(0), 40);
  EXPECT_EQ(cache.free_pages(1), 40);
}

TEST(KvCache, ShortPoolGivesUpWhatItKept) {
  const auto groups = two_groups(8);
  KvCache cache(groups, {KvCache::pages_for(groups[0], 100, 1), 40}, host_allocator());
  const CacheSlot slot = cache.open();
  cache.keep(slot, 12);
  for (int32_t step = 0; step < 60; ++step) grow(cache, slot, 1);
  EXPECT_EQ(cache.rewindable(slot, 12), 0);
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

/// Keeps, rewinds and grows at random: what the next row sees never moves to another page.
TEST(KvCache, RandomRewindsFindTheirPages) {
  for (uint32_t seed = 0; seed < 300; ++seed) {
    std::mt19937 random(seed);
    const auto upto = [&](int32_t n) {
      return static_cast<int32_t>(random() % static_cast<uint32_t>(n));
    };
    const int32_t window = 1 + upto(12);
    KvCache cache(two_groups(window), {4 + upto(10), 60}, host_allocator());
    const CacheSlot slot = cache.open();
    std::vector<std::pair<int32_t, int32_t>> written;  // by position: its page in either group
    for (int32_t action = 0; action < 80; ++action) {
      if (upto(4) == 0) cache.keep(slot, upto(std::min(200, cache.length(slot) + 9)));
      if (upto(6) == 0) {
        cache.rewind(slot, cache.rewindable(slot, upto(cache.length(slot) + 1)));
        written.resize(static_cast<size_t>(cache.length(slot)));
      }
      const int32_t length = cache.length(slot);
      const int32_t rows = 1 + upto(6);
      if (length + rows > 200 || !cache.reserve(slot, rows)) continue;
      for (int32_t p = std::max(0, length - window + 1); p < length; ++p) {
        const std::vector<int32_t> now = pages_before(cache, slot, p + 1, 2);
        const auto& [sliding, full] = written[static_cast<size_t>(p)];
        ASSERT_EQ(now, (std::vector<int32_t>{sliding, full})) << "seed " << seed << " at " << p;
      }
      for (int32_t p = length; p < length + rows; ++p) {
        const std::vector<int32_t> now = pages_before(cache, slot, p + 1, 2);
        ASSERT_NE(now[0], -1);
        written.emplace_back(now[0], now[1]);
      }
      cache.advance(slot, rows);
      cache.check_integrity();
    }
  }
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
        if (upto(4) == 0) cache.keep(slot, upto(cache.length(slot) + 9));
        if (upto(8) == 0) cache.rewind(slot, cache.rewindable(slot, upto(cache.length(slot) + 1)));
        if (cache.reserve(slot, rows)) cache.advance(slot, rows);
      }
      cache.check_integrity();
    }
  }
}

}  // namespace
}  // namespace facet
