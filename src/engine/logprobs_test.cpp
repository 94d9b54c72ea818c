#include "engine/logprobs.h"

#include <cmath>
#include <gtest/gtest.h>

#include "tests/tolerance.h"

namespace facet {
namespace {

TEST(TokenLogprob, IsTheLogSoftmax) {
  const std::vector<float> logits = {std::log(1.0F), std::log(5.0F), std::log(2.0F)};
  const TokenLogprob found = token_logprob(logits, 2, 0);
  EXPECT_NEAR(found.logprob, std::log(2.0 / 8), test::kTranscendental);
  EXPECT_TRUE(found.top.empty());
}

TEST(TokenLogprob, TopFallsAndEqualsRiseById) {
  const std::vector<float> logits = {1, 3, 2, 3, 0, 3};
  const TokenLogprob found = token_logprob(logits, 4, 4);
  ASSERT_EQ(found.top.size(), 4U);
  std::vector<int32_t> ids;
  for (const TopLogprob& entry : found.top) ids.push_back(entry.id);
  EXPECT_EQ(ids, (std::vector<int32_t>{1, 3, 5, 2}));
  EXPECT_EQ(found.top[0].logprob, token_logprob(logits, 1, 0).logprob);
  EXPECT_EQ(token_logprob(logits, 0, 20).top.size(), 6U) << "no more than there are";
}

TEST(TokenLogprob, LargeLogitsStayFinite) {
  const std::vector<float> logits = {1e30F, -1e30F};
  EXPECT_EQ(token_logprob(logits, 0, 0).logprob, 0.0F);
  EXPECT_FALSE(std::isnan(token_logprob(logits, 1, 1).logprob));
}

}  // namespace
}  // namespace facet
