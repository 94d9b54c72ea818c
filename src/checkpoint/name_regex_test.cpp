#include "checkpoint/name_regex.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"

namespace facet {
namespace {

bool matches(const std::string& pattern, std::string_view name) {
  return NameRegex(pattern).matches(name);
}

TEST(NameRegex, MatchesAtTheStartAndNeedNotReachTheEnd) {
  EXPECT_TRUE(matches("model", "model.layers"));
  EXPECT_FALSE(matches("layers", "model.layers"));
  EXPECT_TRUE(matches(".*layers", "model.layers.0"));
  EXPECT_FALSE(matches(".*layers$", "model.layers.0"));
  EXPECT_TRUE(matches("", "anything"));
  EXPECT_TRUE(matches("a|layers", "layers.0"));
  EXPECT_FALSE(matches("a|layers", "x.layers.0"));
}

TEST(NameRegex, KnowsWhatPublishedFilesUse) {
  const std::string attention = R"(.*self_attn\.(q|k|v|o)_proj$)";
  EXPECT_TRUE(matches(attention, "model.language_model.layers.0.self_attn.q_proj"));
  EXPECT_FALSE(matches(attention, "model.language_model.layers.0.self_attn.q_proj2"));
  EXPECT_FALSE(matches(attention, "model.language_model.layers.0.self_attnxq_proj"));
  const std::string experts = R"(.*experts\.\d+\.(gate|up|down)_proj$)";
  EXPECT_TRUE(matches(experts, "model.layers.0.experts.111.gate_proj"));
  EXPECT_FALSE(matches(experts, "model.layers.0.experts.x.gate_proj"));
  EXPECT_TRUE(matches(R"(^(?!.*(router|lm_head)).*proj$)", "model.layers.0.mlp.up_proj"));
  EXPECT_FALSE(matches(R"(^(?!.*(router|lm_head)).*proj$)", "model.layers.0.router.proj"));
  EXPECT_TRUE(matches(R"(model\.layers\.[0-4]\.\w{3}\.)", "model.layers.4.mlp.up_proj"));
  EXPECT_FALSE(matches(R"(model\.layers\.[0-4]\.\w{3}\.)", "model.layers.5.mlp.up_proj"));
}

TEST(NameRegex, RequiredTextIsInEveryMatch) {
  EXPECT_EQ(required_text(R"(.*self_attn\.(q|k)_proj$)"), "self_attn.");
  EXPECT_EQ(required_text("abc?de"), "ab");
  EXPECT_EQ(required_text("abc*"), "ab");
  EXPECT_EQ(required_text("abc+d"), "abc");
  EXPECT_EQ(required_text("ab{0,3}cde"), "cde");
  EXPECT_EQ(required_text(R"(a\.?b)"), "a");
  EXPECT_EQ(required_text("abc|d"), "");
  EXPECT_EQ(required_text("(abc|d)ef"), "ef");
  EXPECT_EQ(required_text("(?!abc)d"), "d");
  EXPECT_EQ(required_text("[abc]d"), "d");
  EXPECT_EQ(required_text("[[:alpha:]bc]d"), "");
  EXPECT_EQ(required_text(R"([\]a]b)"), "b");
  EXPECT_EQ(required_text(R"(\x41bcd)"), "");
  EXPECT_EQ(required_text(R"(ab\dcde)"), "cde");
  EXPECT_EQ(required_text(R"((a\)b)c)"), "c");
  EXPECT_EQ(required_text(""), "");
  EXPECT_EQ(required_text("\\"), "");
  EXPECT_EQ(required_text("(a"), "");
}

// The shortcut through required_text must never change an answer.
TEST(NameRegex, AgreesWithTheLibraryOnRandomPatterns) {
  const std::string_view alphabet = "ab.*+?|()[]^$\\{}12,dx!";
  uint32_t state = 12345;
  const auto next = [&state](uint32_t bound) {
    state = state * 1664525U + 1013904223U;
    return (state >> 16) % bound;
  };
  int32_t compared = 0;
  for (int32_t round = 0; round < 20000; ++round) {
    std::string pattern;
    for (uint32_t n = next(9); n > 0; --n) {
      pattern += alphabet[next(static_cast<uint32_t>(alphabet.size()))];
    }
    std::string name;
    for (uint32_t n = next(7); n > 0; --n) name += "ab.d1"[next(5)];
    try {
      const NameRegex regex(pattern);
      const std::regex plain(pattern);
      const bool wanted = std::regex_search(name, plain, std::regex_constants::match_continuous);
      ASSERT_EQ(regex.matches(name), wanted) << pattern << " on " << name;
      ++compared;
    } catch (const Error&) {
      continue;  // not a pattern
    }
  }
  EXPECT_GT(compared, 1000);
}

std::string refusal(const std::string& pattern) {
  try {
    const NameRegex regex(pattern);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kBadCheckpoint);
    return error.what();
  }
  ADD_FAILURE() << pattern << " was accepted";
  return {};
}

TEST(NameRegex, RefusesBadPatternsByName) {
  using testing::HasSubstr;
  for (const char* bad : {"a(", "a)", "[a", "*a", "a\\", "(?P<n>a)", "(?i)a", "a{3", R"((a)\1)"}) {
    EXPECT_THAT(refusal(bad), HasSubstr(std::string("re:") + bad));
  }
  EXPECT_THAT(refusal(std::string(1025, 'a')), HasSubstr("1025 bytes"));
  EXPECT_THAT(refusal("a{17}"), HasSubstr("repeats"));
  EXPECT_THAT(refusal("((a{3}){3}){3}"), HasSubstr("repeats"));
  EXPECT_THAT(refusal("a{99999999999999999999}"), HasSubstr("repeats"));
}

TEST(NameRegex, HostilePatternsEnd) {
  const std::string name(512, 'a');
  EXPECT_FALSE(matches("(a*)*[b]", name));
  EXPECT_FALSE(matches("(a|a)*(a|aa)*[b]", name));
  EXPECT_TRUE(matches(std::string(500, '(') + "a" + std::string(500, ')'), name));
  std::string optional;
  for (int i = 0; i < 300; ++i) optional += "a?";
  EXPECT_TRUE(matches("(?:" + optional + "){16}", name));
  EXPECT_THROW(matches("a", std::string(513, 'a')), Error);
}

}  // namespace
}  // namespace facet
