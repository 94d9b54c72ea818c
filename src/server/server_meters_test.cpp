#include "server/server_meters.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace facet {
namespace {

using testing::ElementsAre;
using testing::Pair;

TEST(ServerMeters, EachRequestEndsInOneWay) {
  ServerMeters meters;
  meters.answered("stop", {.prompt = 5, .cached = 2, .completion = 7, .reasoning = 3}, 0.3);
  meters.answered("length", {.prompt = 1000, .completion = 1}, 0.31);
  meters.cancelled({.prompt = 4, .completion = 9, .reasoning = 9});
  meters.refused(ApiCode::kInvalidValue);
  meters.refused(ApiCode::kBadRequest);  // the same code to clients
  meters.refused(ApiCode::kQueueTimeout);
  EXPECT_THAT(meters.answered_by_reason(), ElementsAre(Pair("abort", 0), Pair("length", 1),
                                                       Pair("stop", 1), Pair("tool_calls", 0)));
  EXPECT_THAT(meters.refused_by_code(),
              ElementsAre(Pair("invalid_value", 2), Pair("queue_timeout", 1)));
  EXPECT_EQ(meters.cancelled_requests(), 1);
  EXPECT_EQ(meters.reasoning_tokens, 12);
  EXPECT_EQ(meters.request_seconds.snapshot().count(), 2);
  EXPECT_EQ(meters.request_seconds.snapshot().counts[1], 1) << "0.3 is on its border";
  EXPECT_EQ(meters.request_prompt_tokens.snapshot().sum, 1005);
  EXPECT_EQ(meters.request_generated_tokens.snapshot().sum, 8);
}

TEST(ServerMeters, TheRateForgetsWhatIsTenSecondsOld) {
  using std::chrono::seconds;
  ServerMeters meters;
  const auto start = ServerMeters::Clock::now();
  for (int second = 1; second <= 20; ++second) {
    meters.generated_tokens += 100;
    meters.tick(start + seconds(second));
  }
  EXPECT_NEAR(meters.tokens_per_second(start + seconds(20)), 100, 1e-9);
  for (int second = 21; second <= 25; ++second) meters.tick(start + seconds(second));
  EXPECT_NEAR(meters.tokens_per_second(start + seconds(25)), 50, 1e-9);
  for (int second = 26; second <= 40; ++second) meters.tick(start + seconds(second));
  EXPECT_EQ(meters.tokens_per_second(start + seconds(40)), 0);
}

}  // namespace
}  // namespace facet
