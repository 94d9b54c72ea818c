#include "engine/filled_context.h"

#include <cmath>
#include <cstring>
#include <gtest/gtest.h>
#include <set>

#include "base/error.h"

namespace facet {
namespace {

/// Writes K and V as a host backend with a float32 cache would; no other op is called.
class StoringBackend final : public Backend {
 public:
  std::string_view describe() const override { return "store"; }
  const Buffer::Allocator& allocator() const override { return host_allocator(); }
  void store_kv(const KvView& kv, TensorView k, TensorView v, const Batch& batch) override {
    const int64_t heads = kv.layout.kv_heads;
    const int64_t width = kv.layout.head_dim;
    for (int64_t t = 0; t < batch.rows(); ++t) {
      const int32_t position = batch.positions[static_cast<size_t>(t)];
      const PageId page = kv.page_tables[0][static_cast<size_t>(position / kv.layout.page_size)];
      ASSERT_NE(page, kNoPage);
      for (int64_t h = 0; h < heads; ++h) {
        const int64_t at = to_index(page) * page_elements(kv.layout) +
                           (h * kv.layout.page_size + position % kv.layout.page_size) * width;
        for (int64_t d = 0; d < width; ++d) {
          reinterpret_cast<float*>(kv.k)[at + d] =
              k.as<float>()[static_cast<size_t>((t * heads + h) * width + d)];
          reinterpret_cast<float*>(kv.v)[at + d] =
              v.as<float>()[static_cast<size_t>((t * heads + h) * width + d)];
        }
      }
    }
  }

  void embed(TensorView, const WeightMatrix&, std::span<const int32_t>, float) override { FAIL(); }
  void rms_norm(TensorView, TensorView, std::span<const float>, float) override { FAIL(); }
  void linear(TensorView, TensorView, const WeightMatrix&) override { FAIL(); }
  void rope(TensorView, std::span<const int32_t>, const RopeTable&) override { FAIL(); }
  void attention(TensorView, TensorView, const KvView&, int32_t, const Batch&) override { FAIL(); }
  void activate(TensorView, TensorView, TensorView, const Activation&) override { FAIL(); }
  void route(const Routing&, TensorView, const RouterWeightsView&, float) override { FAIL(); }
  void experts(
      TensorView, TensorView, const ExpertWeights&, const Routing&, const Activation&) override {
    FAIL();
  }
  void add(TensorView, TensorView) override { FAIL(); }
  void scale(TensorView, float) override { FAIL(); }
  void soft_cap(TensorView, float) override { FAIL(); }
  void gather_rows(TensorView, TensorView, std::span<const int32_t>) override { FAIL(); }
};

std::vector<KvGroupSpec> groups() {
  return {{2, {2, 4, 8, DType::kF32}, 10}, {1, {1, 6, 8, DType::kF32}, 0}};
}

TEST(FilledContext, EveryVisiblePositionOfEveryLayerHasValues) {
  const std::vector<KvGroupSpec> specs = groups();
  constexpr int32_t kPositions = 45;
  constexpr int32_t kStep = 7;
  const std::vector<int32_t> pages = {KvCache::pages_for(specs[0], kPositions, kStep),
                                      KvCache::pages_for(specs[1], kPositions, kStep)};
  KvCache cache(specs, pages, host_allocator());
  StoringBackend backend;
  const CacheSlot slot = cache.open();
  fill_context(cache, slot, backend, kPositions, kStep);
  EXPECT_EQ(cache.length(slot), kPositions);
  cache.check_integrity();
  CacheViews views;
  cache.views({&slot, 1}, views);
  for (const KvView& view : views.layers) {
    const bool sliding = view.layout.kv_heads == 2;
    std::set<float> values;
    for (int32_t p = sliding ? kPositions - 10 : 0; p < kPositions; ++p) {
      const PageId page = view.page_tables[0][static_cast<size_t>(p / 8)];
      ASSERT_NE(page, kNoPage) << p;
      const int64_t at = to_index(page) * page_elements(view.layout) + p % 8 * view.layout.head_dim;
      const float k = reinterpret_cast<const float*>(view.k)[at];
      const float v = reinterpret_cast<const float*>(view.v)[at];
      EXPECT_NE(k, 0.0F) << p;
      EXPECT_NE(v, 0.0F) << p;
      EXPECT_LT(std::fabs(k) + std::fabs(v), 12.0F);
      values.insert({k, v});
    }
    EXPECT_GT(values.size(), 8u);
  }
}

TEST(FilledContext, AShortCacheIsSaid) {
  KvCache cache(groups(), {20, 3}, host_allocator());
  StoringBackend backend;
  const CacheSlot slot = cache.open();
  EXPECT_THROW(fill_context(cache, slot, backend, 100, 7), Error);
  cache.check_integrity();
}

}  // namespace
}  // namespace facet
