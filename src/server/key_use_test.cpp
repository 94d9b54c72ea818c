#include "server/key_use.h"

#include <gtest/gtest.h>

#include "server/api_error.h"

namespace facet {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

Caller caller(const std::string& tenant) {
  Caller result;
  result.tenant = tenant;
  return result;
}

/// Seconds that a refusal names; 0 if there is none.
int32_t refused(KeyUse& use, const Caller& who, KeyUse::Clock::time_point now) {
  try {
    use.check(who, now);
  } catch (const ApiError& error) {
    EXPECT_EQ(error.api(), ApiCode::kRateLimitExceeded);
    return error.retry_after();
  }
  return 0;
}

TEST(KeyUse, RequestsAMinuteComeBackOneByOne) {
  KeyUse use({.per_minute = 3, .concurrent = 0});
  const auto start = KeyUse::Clock::now();
  for (int i = 0; i < 3; ++i) use.take(caller("a"), start);
  EXPECT_EQ(refused(use, caller("a"), start), 20);
  EXPECT_THROW(use.take(caller("a"), start), ApiError);
  EXPECT_EQ(refused(use, caller("b"), start), 0);
  EXPECT_EQ(refused(use, caller("a"), start + seconds(19)), 1);
  EXPECT_EQ(refused(use, caller("a"), start + milliseconds(20100)), 0);
  use.take(caller("a"), start + milliseconds(20100));
  EXPECT_EQ(refused(use, caller("a"), start + milliseconds(20100)), 20);
  // A long rest gives a minute's worth, no more.
  const auto later = start + seconds(1000);
  for (int i = 0; i < 3; ++i) use.take(caller("a"), later);
  EXPECT_GT(refused(use, caller("a"), later), 0);
}

TEST(KeyUse, RequestsAtTheSameTimeCountUntilTheyEnd) {
  KeyUse use({.per_minute = 0, .concurrent = 2});
  const auto now = KeyUse::Clock::now();
  auto one = use.take(caller("a"), now);
  const auto two = use.take(caller("a"), now);
  EXPECT_EQ(refused(use, caller("a"), now), 1);
  EXPECT_EQ(refused(use, caller("b"), now), 0);
  one.reset();
  EXPECT_EQ(refused(use, caller("a"), now), 0);
}

TEST(KeyUse, AKeysOwnLimitsGoFirst) {
  KeyUse use({.per_minute = 1, .concurrent = 1});
  const auto now = KeyUse::Clock::now();
  Caller free = caller("free");
  free.per_minute = 0;
  free.concurrent = 0;
  Caller tight = caller("tight");
  tight.concurrent = 3;
  tight.per_minute = 2;
  std::vector<std::shared_ptr<const void>> held;
  for (int i = 0; i < 5; ++i) held.push_back(use.take(free, now));
  for (int i = 0; i < 2; ++i) held.push_back(use.take(tight, now));
  EXPECT_EQ(refused(use, tight, now), 30);
  // Without keys nobody is counted.
  for (int i = 0; i < 5; ++i) held.push_back(use.take(caller(""), now));
}

}  // namespace
}  // namespace facet
