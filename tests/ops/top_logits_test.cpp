// select_top(): where a backend leaves logits on its device, the largest must be all there.

#include <algorithm>
#include <cmath>
#include <fmt/core.h>
#include <limits>
#include <utility>

#include "engine/sampling.h"
#include "tests/ops/op_test.h"

namespace facet::test {
namespace {

class TopLogitsTest : public OpTest {
 protected:
  /// What the backend finds; a test ends where it reads logits in place.
  std::span<const TopLogits> find(const Tensor& logits) {
    be().select_top(logits.view());
    return be().top_logits();
  }
};

using Entry = std::pair<float, int32_t>;

std::vector<Entry> sorted(std::vector<Entry> entries) {
  std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
    return a.first != b.first ? a.first > b.first : a.second < b.second;
  });
  return entries;
}

/// Every logit of the row that is not below the smallest of `found`, once, and enough of them.
void expect_all_from_the_top(const Tensor& logits, int64_t row, const TopLogits& found) {
  EXPECT_TRUE(found.finite);
  const int64_t width = logits.row_width();
  ASSERT_GE(std::ssize(found.entries), std::min<int64_t>(width, 100));
  std::vector<Entry> entries;
  for (const TopLogits::Entry& entry : found.entries) entries.emplace_back(entry.logit, entry.id);
  entries = sorted(std::move(entries));
  std::vector<Entry> all;
  for (int64_t id = 0; id < width; ++id)
    all.emplace_back(logits[row * width + id], static_cast<int32_t>(id));
  all = sorted(std::move(all));
  all.resize(entries.size());
  EXPECT_EQ(entries, all);
}

#define SKIP_IF_READ_IN_PLACE(found) \
  if ((found).empty()) GTEST_SKIP() << "logits are on the host"

TEST_P(TopLogitsTest, TheLargestOfEachRow) {
  for (const int64_t width : {1, 100, 300, 1000, 4099, 262144}) {
    SCOPED_TRACE(width);
    const Tensor logits = Tensor::random({3, width}, 21, 30.0F);
    const auto found = find(logits);
    SKIP_IF_READ_IN_PLACE(found);
    ASSERT_EQ(found.size(), 3u);
    for (int64_t row = 0; row < 3; ++row) {
      if (width == 1000 && found[static_cast<size_t>(row)].entries.empty()) continue;  // too many
      expect_all_from_the_top(logits, row, found[static_cast<size_t>(row)]);
    }
  }
}

TEST_P(TopLogitsTest, FindsThemWhereverTheyStand) {
  // Neighbours, of which a search by groups must not keep one each; and the last ids.
  constexpr int64_t kWidth = 262144;
  Tensor logits = Tensor::random({2, kWidth}, 22);
  for (int64_t i = 0; i < 200; ++i) {
    logits[5000 + i] = 10.0F + static_cast<float>(i);
    logits[2 * kWidth - 1 - i] = 10.0F + static_cast<float>(i % 7);  // with equals
  }
  const auto found = find(logits);
  SKIP_IF_READ_IN_PLACE(found);
  for (int64_t row = 0; row < 2; ++row)
    expect_all_from_the_top(logits, row, found[static_cast<size_t>(row)]);
}

TEST_P(TopLogitsTest, SaysWhenTooManyAreEqual) {
  Tensor logits({2, 5000});
  for (int64_t i = 0; i < 10000; ++i) logits[i] = 1.0F;
  logits[7] = 2.0F;
  const auto found = find(logits);
  SKIP_IF_READ_IN_PLACE(found);
  for (const TopLogits& row : found) {
    EXPECT_TRUE(row.finite);
    EXPECT_TRUE(row.entries.empty());
  }
}

TEST_P(TopLogitsTest, SeesWhatIsNoNumber) {
  for (const float broken : {std::numeric_limits<float>::quiet_NaN(),
                             std::numeric_limits<float>::infinity(), -HUGE_VALF}) {
    Tensor logits = Tensor::random({3, 4096}, 23);
    logits[4096 + 4000] = broken;
    const auto found = find(logits);
    SKIP_IF_READ_IN_PLACE(found);
    EXPECT_TRUE(found[0].finite);
    EXPECT_FALSE(found[1].finite);
    EXPECT_TRUE(found[2].finite);
    expect_all_from_the_top(logits, 2, found[2]);
  }
}

// Sampling on the device is that of the host: borders, order of sums, excluded ids and all.
class DrawTest : public TopLogitsTest {
 protected:
  static SamplingParams params(float temperature, int32_t top_k, float top_p = 1, float min_p = 0) {
    SamplingParams result;
    result.temperature = temperature;
    result.top_k = top_k;
    result.top_p = top_p;
    result.min_p = min_p;
    return result;
  }
  /// Draws for each row under `params`, whose seed and position differ by row.
  void check(const Tensor& logits, SamplingParams params, const std::vector<int32_t>& never) {
    SCOPED_TRACE(fmt::format("temperature {} top_k {} top_p {} min_p {}", params.temperature,
                             params.top_k, params.top_p, params.min_p));
    constexpr int64_t kFar = int64_t{1} << 33;
    const std::vector<int32_t> banned = {1, 2};
    const TokenMask mask = {.banned = banned, .allowed = {}};
    const int64_t width = logits.row_width();
    Sampler::Scratch scratch;
    std::vector<DrawSpec> draws;
    std::vector<int32_t> wanted;
    for (int64_t row = 0; row < logits.shape()[0]; ++row) {
      params.seed = 0x9876543210 + static_cast<uint64_t>(row);
      params.choice = static_cast<int32_t>(row % 3);
      Sampler sampler(params, never, scratch);
      draws.push_back(sampler.draw_spec(kFar + row, mask));
      std::vector<float> all(logits.values().begin() + row * width,
                             logits.values().begin() + (row + 1) * width);
      wanted.push_back(sampler.sample(all, kFar + row, mask));
    }
    be().begin_step({.batch = {}, .top_logits = true, .draws = draws});
    const auto found = find(logits);
    SKIP_IF_READ_IN_PLACE(found);
    const std::span<const int32_t> drawn = be().drawn();
    EXPECT_EQ(std::vector<int32_t>(drawn.begin(), drawn.end()), wanted);
    for (const TopLogits& row : found) EXPECT_TRUE(row.finite);
    // One row that the host draws: it gets what was found of all.
    draws[1] = {};
    be().begin_step({.batch = {}, .top_logits = true, .draws = draws});
    const auto again = find(logits);
    ASSERT_EQ(be().drawn().size(), wanted.size());
    EXPECT_EQ(be().drawn()[0], wanted[0]);
    EXPECT_EQ(be().drawn()[1], -1);
    expect_all_from_the_top(logits, 1, again[1]);
    be().begin_step({.batch = {}});
  }
};

TEST_P(DrawTest, AsTheSamplerDraws) {
  for (const int64_t width : {300, 262144}) {
    Tensor logits = Tensor::random({24, width}, 31, 12.0F);
    for (int64_t row = 0; row < 24; row += 4) {  // close ones, equal ones
      for (int64_t i = 0; i < 100; ++i)
        logits[row * width + i * 2] = 13.0F + static_cast<float>(i * 7 % 10) * 0.25F;
    }
    const std::vector<int32_t> never = {0, 4, 6, 299};
    check(logits, params(0, 50), never);
    check(logits, params(1, 1), {});
    for (const float temperature : {0.05F, 0.7F, 1.0F, 4.0F}) {
      check(logits, params(temperature, 64, 0.95F), never);
      check(logits, params(temperature, 100), never);
      check(logits, params(temperature, 20, 0.3F, 0.1F), {});
    }
  }
}

TEST_P(DrawTest, LeavesToTheHostWhatItCannotDraw) {
  Tensor logits = Tensor::random({3, 4096}, 32);
  logits[4096 + 9] = HUGE_VALF;                                    // not finite
  for (int64_t i = 0; i < 4096; ++i) logits[2 * 4096 + i] = 1.0F;  // too many equals
  DrawSpec most;
  most.top_k = 4096;
  DrawSpec greedy;
  greedy.top_k = 1;
  const std::vector<DrawSpec> draws = {most, greedy, greedy};
  be().begin_step({.batch = {}, .top_logits = true, .draws = draws});
  const auto found = find(logits);
  be().begin_step({.batch = {}});
  SKIP_IF_READ_IN_PLACE(found);
  const std::span<const int32_t> drawn = be().drawn();
  EXPECT_EQ(std::vector<int32_t>(drawn.begin(), drawn.end()), std::vector<int32_t>(3, -1));
  EXPECT_FALSE(found[1].finite);
}

INSTANTIATE_TEST_SUITE_P(Backends, DrawTest, testing::ValuesIn(backends()), backend_name);
INSTANTIATE_TEST_SUITE_P(Backends, TopLogitsTest, testing::ValuesIn(backends()), backend_name);

}  // namespace
}  // namespace facet::test
