#include "server/keys.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"

namespace facet {
namespace {

using testing::HasSubstr;

const std::string kOne(32, 'a');
const std::string kTwo(40, 'b');

http::RequestHead head(std::vector<http::Field> fields) {
  http::RequestHead result;
  result.fields = std::move(fields);
  return result;
}

std::string refusal(const std::string& text) {
  try {
    KeyRing::parse(text, "keys");
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kUnsafeSettings);
    return error.what();
  }
  return {};
}

TEST(KeyRing, KnowsItsCallers) {
  const KeyRing ring = KeyRing::parse("# ours\n\n" + kOne + "\nteam " + kTwo + " admin\n", "keys");
  EXPECT_EQ(ring.size(), 2U);
  const auto one = ring.caller(head({{"authorization", "Bearer " + kOne}}));
  ASSERT_TRUE(one);
  EXPECT_EQ(one->tenant, "key1");
  EXPECT_EQ(one->role, KeyRole::kUser);
  const auto two = ring.caller(head({{"x-api-key", kTwo}}));
  ASSERT_TRUE(two);
  EXPECT_EQ(two->tenant, "team");
  EXPECT_EQ(two->role, KeyRole::kAdmin);
  EXPECT_TRUE(ring.caller(head({{"authorization", "bearer  " + kOne}, {"x-api-key", kOne}})));
  EXPECT_FALSE(ring.caller(head({{"authorization", "Bearer " + kOne}, {"x-api-key", kTwo}})));
  EXPECT_FALSE(ring.caller(head({{"x-api-key", kTwo}, {"x-api-key", kTwo}})));
  EXPECT_FALSE(ring.caller(head({{"authorization", kOne}})));
  EXPECT_FALSE(ring.caller(head({{"authorization", "Bearer"}})));
  EXPECT_FALSE(ring.caller(head({})));
}

TEST(KeyRing, WithoutKeysEveryCallerIsLetIn) {
  EXPECT_TRUE(KeyRing().caller(head({{"authorization", "Bearer "}})));
}

TEST(KeyRing, ReadsTheLimitsOfAKey) {
  const KeyRing ring = KeyRing::parse(
      "a " + kOne + " per-minute=60 admin\nb " + kTwo + " concurrent=0 per-minute=2\n", "keys");
  const auto a = ring.caller(head({{"x-api-key", kOne}}));
  ASSERT_TRUE(a);
  EXPECT_EQ(a->role, KeyRole::kAdmin);
  EXPECT_EQ(a->per_minute, 60);
  EXPECT_EQ(a->concurrent, std::nullopt);
  const auto b = ring.caller(head({{"x-api-key", kTwo}}));
  ASSERT_TRUE(b);
  EXPECT_EQ(b->role, KeyRole::kUser);
  EXPECT_EQ(b->per_minute, 2);
  EXPECT_EQ(b->concurrent, 0);
  for (const char* word : {"per-minute=", "per-minute=-1", "per-minute=1x",
                           "concurrent=99999999999", "per-hour=3", "concurrent"})
    EXPECT_THAT(refusal("a " + kOne + " " + word), HasSubstr("line 1: found")) << word;
}

TEST(KeyRing, RefusesWeakFiles) {
  EXPECT_THAT(refusal("# nothing\n"), HasSubstr("holds no key"));
  EXPECT_THAT(refusal("\nshort\n"), HasSubstr("keys line 2: a key of 5 characters"));
  EXPECT_THAT(refusal(std::string(513, 'a')), HasSubstr("a key of 513"));
  EXPECT_THAT(refusal(kOne + "\nx " + kOne), HasSubstr("line 2: this name or key is there twice"));
  EXPECT_THAT(refusal("x " + kOne + "\nx " + kTwo), HasSubstr("twice"));
  EXPECT_THAT(refusal("x " + kOne + " root"), HasSubstr("found root behind the key"));
  EXPECT_THAT(refusal("a/b " + kOne), HasSubstr("a name is"));
}

TEST(FailureLimit, TwentyAMinutePerAddress) {
  FailureLimit limit;
  const auto start = FailureLimit::Clock::now();
  for (int i = 0; i < 20; ++i) EXPECT_TRUE(limit.allow("1.2.3.4", start));
  EXPECT_FALSE(limit.allow("1.2.3.4", start + std::chrono::seconds(59)));
  EXPECT_TRUE(limit.allow("1.2.3.5", start));
  EXPECT_TRUE(limit.allow("1.2.3.4", start + std::chrono::seconds(61)));
}

}  // namespace
}  // namespace facet
