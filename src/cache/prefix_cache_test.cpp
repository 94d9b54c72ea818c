#include "cache/prefix_cache.h"

#include <gtest/gtest.h>
#include <numeric>
#include <random>

namespace facet {
namespace {

constexpr int32_t kPage = 4;
constexpr int32_t kWindow = 8;
constexpr int32_t kSliding = 0;
constexpr int32_t kFull = 1;

std::vector<KvGroupSpec> two_groups() {
  const KvLayout layout = {1, 2, kPage, DType::kF32};
  return {{1, layout, kWindow}, {1, layout, 0}};
}

std::vector<int32_t> numbers(int32_t first, int32_t count) {
  std::vector<int32_t> made(static_cast<size_t>(count));
  std::iota(made.begin(), made.end(), first);
  return made;
}

class PrefixCacheTest : public testing::Test {
 protected:
  explicit PrefixCacheTest(PageHash hash = hash_page)
      : kv_(two_groups(), {20, 20}, host_allocator()), cache_(kv_, hash) {}

  void check() const {
    kv_.check_integrity();
    cache_.check_integrity();
  }

  /// Reads what is not cached, as the engine does: trimmed to the window before the border of pages
  /// before the last one.
  CacheSlot open(const std::vector<int32_t>& tokens, const char* key = "") {
    const CacheSlot slot = cache_.lock(key, tokens, cache_.match(key, tokens));
    const auto length = static_cast<int32_t>(tokens.size());
    while (kv_.length(slot) < length) {
      kv_.trim(slot, std::max(0, kv_.length(slot) / kPage - 1) * kPage);
      for (const int32_t group : {kSliding, kFull}) cache_.evict(group, 1);
      EXPECT_TRUE(kv_.grow(slot, 1));
      kv_.advance(slot, 1);
    }
    check();
    return slot;
  }
  void read(const std::vector<int32_t>& tokens, const char* key = "") {
    const CacheSlot slot = open(tokens, key);
    cache_.insert(key, tokens, slot);
    check();
    kv_.close(slot);
    check();
  }
  int32_t matched(const std::vector<int32_t>& tokens, const char* key = "") const {
    return cache_.match(key, tokens).length;
  }

  KvCache kv_;
  PrefixCache cache_;
};

TEST_F(PrefixCacheTest, NothingIsThereAtFirst) {
  EXPECT_EQ(matched(numbers(0, 30)), 0);
  EXPECT_EQ(matched({}), 0);
  read(numbers(0, 3));
  EXPECT_EQ(cache_.nodes(), 0) << "no whole page";
}

TEST_F(PrefixCacheTest, WholePagesOfLessThanAllTokensMatch) {
  read(numbers(0, 14));
  EXPECT_EQ(matched(numbers(0, 30)), 12);
  EXPECT_EQ(matched(numbers(0, 13)), 12);
  EXPECT_EQ(matched(numbers(0, 12)), 8) << "the last token is always read";
  EXPECT_EQ(matched(numbers(1, 30)), 0);
}

TEST_F(PrefixCacheTest, KeysAreApart) {
  read(numbers(0, 14), "a");
  EXPECT_EQ(matched(numbers(0, 14), "a"), 12);
  EXPECT_EQ(matched(numbers(0, 14), "b"), 0);
  EXPECT_EQ(matched(numbers(0, 14)), 0);
}

class CollidingPrefixCache : public PrefixCacheTest {
 protected:
  CollidingPrefixCache()
      : PrefixCacheTest([](uint64_t, std::span<const int32_t>) { return uint64_t{7}; }) {}
};

TEST_F(CollidingPrefixCache, EqualHashesAreNotEqualTokens) {
  read(numbers(0, 14));
  read(numbers(100, 14));
  read(numbers(0, 14), "key");
  EXPECT_EQ(cache_.nodes(), 3 * 3);
  EXPECT_EQ(matched(numbers(0, 14)), 12);
  EXPECT_EQ(matched(numbers(200, 14)), 0);
  EXPECT_EQ(matched(numbers(4, 14)), 0) << "a page of the same tokens, elsewhere";
  const std::vector<int32_t> tokens = numbers(100, 14);
  const CacheSlot slot = cache_.lock("", tokens, cache_.match("", tokens));
  std::vector<int32_t> parted = numbers(100, 8);
  for (const int32_t id : numbers(0, 6)) parted.push_back(id);
  EXPECT_EQ(matched(parted), 8);
  cache_.evict(kFull, 20);
  check();
  EXPECT_EQ(cache_.nodes(), 3) << "those of the open sequence";
  EXPECT_EQ(matched(tokens), 12);
  kv_.close(slot);
  cache_.clear();
}

/// Of a long text the sliding group keeps the windows before the last border and the one before it.
TEST_F(PrefixCacheTest, AMatchNeedsTheWholeWindowBeforeIt) {
  read(numbers(0, 42));
  EXPECT_EQ(matched(numbers(0, 60)), 40);
  std::vector<int32_t> parted = numbers(0, 39);
  parted.push_back(1000);
  EXPECT_EQ(matched(parted), 36);
  EXPECT_EQ(cache_.match("", parted).known, 36);
  parted = numbers(0, 35);
  parted.push_back(1000);
  EXPECT_EQ(matched(parted), 0) << "of the window before 32 only a part is there";
  EXPECT_EQ(cache_.match("", parted).known, 32);
  // Whoever reads it again leaves its own window there.
  read(numbers(0, 33));
  EXPECT_EQ(matched(parted), 32);
}

TEST_F(PrefixCacheTest, ALockedMatchIsTheSamePagesAndStays) {
  const std::vector<int32_t> tokens = numbers(0, 22);
  const CacheSlot first = open(tokens);
  cache_.insert("", tokens, first);
  const CacheSlot second = cache_.lock("", tokens, cache_.match("", tokens));
  check();
  EXPECT_EQ(kv_.length(second), 20);
  for (int32_t i = 0; i < 5; ++i) EXPECT_EQ(kv_.page(second, kFull, i), kv_.page(first, kFull, i));
  EXPECT_EQ(kv_.page(second, kSliding, 0), kNoPage);
  for (int32_t i = 3; i < 5; ++i)
    EXPECT_EQ(kv_.page(second, kSliding, i), kv_.page(first, kSliding, i));
  kv_.close(first);
  cache_.evict(kFull, 20);
  cache_.evict(kSliding, 20);
  check();
  EXPECT_EQ(kv_.free_pages(kFull), 20 - 5);
  EXPECT_EQ(kv_.free_pages(kSliding), 20 - 2);
  kv_.close(second);
  cache_.evict(kFull, 20);
  cache_.evict(kSliding, 20);
  EXPECT_EQ(kv_.free_pages(kFull), 20);
  EXPECT_EQ(kv_.free_pages(kSliding), 20);
  EXPECT_EQ(cache_.nodes(), 0);
}

TEST_F(PrefixCacheTest, EqualPagesReadTwiceAreKeptOnce) {
  const std::vector<int32_t> tokens = numbers(0, 16);
  const CacheSlot first = open(tokens);
  const CacheSlot second = open(tokens);
  EXPECT_NE(kv_.page(first, kFull, 0), kv_.page(second, kFull, 0));
  cache_.insert("", tokens, first);
  cache_.insert("", tokens, second);
  check();
  EXPECT_EQ(kv_.page(first, kFull, 3), kv_.page(second, kFull, 3));
  EXPECT_EQ(kv_.free_pages(kFull), 20 - 4);
  kv_.close(first);
  kv_.close(second);
}

TEST_F(PrefixCacheTest, TheLeastRecentlyUsedGoesFirstLeavesBeforeTheirParents) {
  const std::vector<int32_t> common = numbers(0, 8);
  const auto branch = [&](int32_t first) {
    std::vector<int32_t> tokens = common;
    for (const int32_t id : numbers(first, 9)) tokens.push_back(id);
    return tokens;
  };
  read(branch(100));
  read(branch(200));
  read(branch(300));
  EXPECT_EQ(cache_.nodes(), 2 + 3 * 2);
  read(branch(100));  // used again
  cache_.evict(kFull, kv_.free_pages(kFull) + 1);
  check();
  EXPECT_EQ(matched(branch(200)), 12);
  EXPECT_EQ(matched(branch(300)), 16);
  EXPECT_EQ(matched(branch(100)), 16);
  cache_.evict(kFull, kv_.free_pages(kFull) + 3);
  check();
  EXPECT_EQ(cache_.match("", branch(200)).known, 8);
  EXPECT_EQ(cache_.match("", branch(300)).known, 8);
  EXPECT_EQ(matched(branch(100)), 16);
}

TEST_F(PrefixCacheTest, WhatASequenceHoldsStaysHoweverLongAgoItWasUsed) {
  const std::vector<int32_t> held = numbers(0, 14);
  const CacheSlot slot = open(held);
  cache_.insert("", held, slot);
  read(numbers(100, 14));
  for (const int32_t group : {kSliding, kFull}) cache_.evict(group, 20);
  check();
  EXPECT_EQ(cache_.nodes(), 3);
  EXPECT_EQ(matched(held), 12);
  kv_.close(slot);
}

TEST_F(PrefixCacheTest, SlidingPagesGoByThemselves) {
  read(numbers(0, 22));
  read(numbers(500, 22));
  cache_.evict(kSliding, kv_.free_pages(kSliding) + 3);
  check();
  EXPECT_EQ(matched(numbers(0, 22)), 0);
  EXPECT_EQ(cache_.match("", numbers(0, 22)).known, 20);
  EXPECT_EQ(matched(numbers(500, 22)), 20);
}

TEST_F(PrefixCacheTest, UnlockedPagesAreThoseThatALockTakesFromEviction) {
  const std::vector<int32_t> tokens = numbers(0, 22);
  read(tokens);
  const PrefixCache::Match match = cache_.match("", tokens);
  EXPECT_EQ(cache_.unlocked_pages(match, kFull), 5);
  EXPECT_EQ(cache_.unlocked_pages(match, kSliding), 2);
  const int32_t before = kv_.pages(kFull).cached_alone();
  const CacheSlot slot = cache_.lock("", tokens, match);
  EXPECT_EQ(kv_.pages(kFull).cached_alone(), before - 5);
  EXPECT_EQ(cache_.unlocked_pages(cache_.match("", tokens), kFull), 0);
  kv_.close(slot);
}

TEST_F(PrefixCacheTest, ClearGivesEverythingBack) {
  read(numbers(0, 22));
  read(numbers(7, 22), "key");
  cache_.clear();
  check();
  EXPECT_EQ(kv_.free_pages(kFull), 20);
  EXPECT_EQ(kv_.free_pages(kSliding), 20);
}

TEST(KvCacheSharing, AForkCopiesThePageThatIsBegunAndSharesTheRest) {
  KvCache kv(two_groups(), {10, 10}, host_allocator());
  const CacheSlot slot = kv.open();
  ASSERT_TRUE(kv.reserve(slot, 10));
  kv.advance(slot, 10);
  CacheViews views;
  kv.views({&slot, 1}, views);
  const auto floats = [&](PageId page) {
    return reinterpret_cast<float*>(views.layers[1].k) +
           to_index(page) * page_elements({1, 2, kPage, DType::kF32});
  };
  floats(kv.page(slot, kFull, 2))[1] = 42.0F;
  const std::optional<CacheSlot> fork = kv.fork(slot, 10);
  ASSERT_TRUE(fork);
  kv.check_integrity();
  EXPECT_EQ(kv.page(*fork, kFull, 1), kv.page(slot, kFull, 1));
  EXPECT_NE(kv.page(*fork, kFull, 2), kv.page(slot, kFull, 2));
  EXPECT_EQ(floats(kv.page(*fork, kFull, 2))[1], 42.0F);
  EXPECT_EQ(kv.free_pages(kFull), 10 - 4);
  // At a border nothing is copied, and a full pool is no reason to refuse.
  const std::optional<CacheSlot> whole = kv.fork(slot, 8);
  ASSERT_TRUE(whole);
  EXPECT_EQ(kv.free_pages(kFull), 10 - 4);
  kv.close(slot);
  kv.close(*fork);
  kv.close(*whole);
  kv.check_integrity();
  EXPECT_EQ(kv.free_pages(kFull), 10);
}

TEST(KvCacheSharing, AForkWithoutAFreePageChangesNothing) {
  KvCache kv(two_groups(), {3, 3}, host_allocator());
  const CacheSlot slot = kv.open();
  ASSERT_TRUE(kv.reserve(slot, 10));
  kv.advance(slot, 10);
  EXPECT_FALSE(kv.fork(slot, 10));
  kv.check_integrity();
}

}  // namespace
}  // namespace facet
