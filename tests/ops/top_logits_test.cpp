// select_top(): where a backend leaves logits on its device, the largest must be all there.

#include <algorithm>
#include <cmath>
#include <fmt/core.h>
#include <limits>
#include <utility>

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

INSTANTIATE_TEST_SUITE_P(Backends, TopLogitsTest, testing::ValuesIn(backends()), backend_name);

}  // namespace
}  // namespace facet::test
