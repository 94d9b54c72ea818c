#include "checkpoint/name_pattern.h"

#include <algorithm>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace facet {
namespace {

TEST(GlobMatch, IsAnchoredAtBothEndsAndStarsTakeDots) {
  EXPECT_TRUE(glob_match("a.b", "a.b"));
  EXPECT_TRUE(glob_match("a*", "a.b.c"));
  EXPECT_TRUE(glob_match("*c", "a.b.c"));
  EXPECT_TRUE(glob_match("a*c", "ac"));
  EXPECT_TRUE(glob_match("*.layers.*.mlp*", "model.layers.3.mlp.up_proj"));
  EXPECT_TRUE(glob_match("**", ""));
  EXPECT_TRUE(glob_match("", ""));
  EXPECT_FALSE(glob_match("", "a"));
  EXPECT_FALSE(glob_match("a", ""));
  EXPECT_FALSE(glob_match("b*", "a.b.c"));
  EXPECT_FALSE(glob_match("*b", "a.b.c"));
  EXPECT_FALSE(glob_match("a.b", "axb"));  // a dot is a dot
  EXPECT_FALSE(glob_match("a[bc]", "ab"));
  EXPECT_FALSE(glob_match("a?", "ab"));
}

TEST(GlobMatch, TakesBackAStarThatWasTooShort) {
  EXPECT_TRUE(glob_match("*ab", "aab"));
  EXPECT_TRUE(glob_match("*aab*aab", "aaabxaaab"));
  EXPECT_FALSE(glob_match("*aab*aabc", "aaabxaaab"));
}

TEST(GlobMatch, IsNotExponential) {
  std::string pattern;
  for (int i = 0; i < 200; ++i) pattern += "*a";
  EXPECT_FALSE(glob_match(pattern + "b", std::string(5000, 'a')));
}

TEST(ModuleAliases, ExchangesTheThreeRoots) {
  using testing::UnorderedElementsAre;
  const auto all = UnorderedElementsAre("model.language_model.layers.0.mlp",
                                        "language_model.model.layers.0.mlp", "model.layers.0.mlp");
  for (const char* name : {"model.language_model.layers.0.mlp", "language_model.model.layers.0.mlp",
                           "model.layers.0.mlp"}) {
    EXPECT_THAT(module_aliases(name), all);
    EXPECT_EQ(module_aliases(name).front(), name);
    EXPECT_EQ(canonical_module(name), "model.layers.0.mlp");
  }
  EXPECT_THAT(module_aliases("lm_head"), UnorderedElementsAre("lm_head"));
  EXPECT_EQ(canonical_module("modelx.y"), "modelx.y");
  EXPECT_EQ(canonical_module(""), "");
}

TEST(PrefixSet, FindsAPrefixAmongMany) {
  const PrefixSet set({"ab", "abc", "b", "abd", "zz", "ab"});
  EXPECT_TRUE(set.has_prefix_of("ab"));
  EXPECT_TRUE(set.has_prefix_of("abzzz"));
  EXPECT_TRUE(set.has_prefix_of("abcd"));
  EXPECT_TRUE(set.has_prefix_of("b"));
  EXPECT_FALSE(set.has_prefix_of("a"));
  EXPECT_FALSE(set.has_prefix_of("aab"));
  EXPECT_FALSE(set.has_prefix_of("z"));
  EXPECT_FALSE(set.has_prefix_of(""));
  EXPECT_FALSE(PrefixSet().has_prefix_of("a"));
  EXPECT_TRUE(PrefixSet({""}).has_prefix_of(""));
}

// Every set over {"", a, b, aa, ab, …} against the definition.
TEST(PrefixSet, AgreesWithTheDefinition) {
  const std::vector<std::string> words = {"", "a", "b", "aa", "ab", "ba", "aab", "abb", "bab"};
  for (size_t mask = 0; mask < (size_t{1} << words.size()); ++mask) {
    std::vector<std::string> chosen;
    for (size_t i = 0; i < words.size(); ++i) {
      if ((mask >> i & 1) != 0) chosen.push_back(words[words.size() - 1 - i]);
    }
    const PrefixSet set(chosen);
    for (const std::string& text : words) {
      const bool wanted = std::any_of(chosen.begin(), chosen.end(), [&text](const auto& prefix) {
        return text.starts_with(prefix);
      });
      ASSERT_EQ(set.has_prefix_of(text), wanted) << "text " << text << " mask " << mask;
    }
  }
}

bool matches(const std::vector<std::string>& patterns, std::string_view module) {
  return ModulePatterns(patterns).matches(module);
}

TEST(ModulePatterns, PlainNamesTakeWholeComponentsOnly) {
  EXPECT_TRUE(matches({"model.layers.1.mlp"}, "model.layers.1.mlp"));
  EXPECT_TRUE(matches({"model.layers.1.mlp"}, "model.layers.1.mlp.up_proj"));
  EXPECT_FALSE(matches({"model.layers.1.mlp"}, "model.layers.1.mlp2.up_proj"));
  EXPECT_FALSE(matches({"model.layers.1"}, "model.layers.10.mlp"));
  EXPECT_TRUE(matches({"router.proj"}, "model.layers.1.router.proj"));
  EXPECT_FALSE(matches({"outer.proj"}, "model.layers.1.router.proj"));
  EXPECT_TRUE(matches({"mlp"}, "model.layers.1.mlp.up_proj"));
  EXPECT_FALSE(matches({"mlp"}, "model.layers.1.mlp2.up_proj"));
  EXPECT_FALSE(matches({"mlp"}, "model.layers.1.xmlp.up_proj"));
  EXPECT_TRUE(matches({"lm_head"}, "lm_head"));
  EXPECT_TRUE(matches({"lm_head"}, "language_model.lm_head"));
  EXPECT_FALSE(matches({"lm_head"}, "lm_head2"));
  EXPECT_FALSE(matches({"lm_head"}, "lm"));
}

TEST(ModulePatterns, StarsTakeTheWholeName) {
  const std::string expert = "model.language_model.layers.1.experts.1.up_proj";
  EXPECT_FALSE(matches({"model.language_model.layers.1.mlp*"}, expert));
  EXPECT_TRUE(matches({"model.language_model.layers.1.e*"}, expert));
  EXPECT_FALSE(matches({"model.language_model.layers.1.mlp*"},
                       "model.language_model.layers.10.mlp.up_proj"));
  EXPECT_TRUE(
      matches({"model.language_model.layers.1*"}, "model.language_model.layers.10.mlp.up_proj"));
  EXPECT_FALSE(matches({"mlp*"}, "model.layers.1.mlp.up_proj"));
  EXPECT_TRUE(matches({"*mlp*"}, "model.layers.1.mlp.up_proj"));
  EXPECT_FALSE(matches({"*mlp*"}, expert));
  EXPECT_TRUE(matches({"*.up_proj"}, expert));
  EXPECT_FALSE(matches({"*.up_proj"}, expert + "x"));
  EXPECT_TRUE(matches({"*"}, expert));
  EXPECT_TRUE(matches({"*.layers.*.experts.1.*"}, expert));
  EXPECT_FALSE(matches({"*.layers.*.experts.1.*"}, "model.layers.1.experts.11.up_proj"));
  EXPECT_TRUE(matches({"lm_head.*"}, "lm_head"));
  EXPECT_TRUE(matches({"model.layers.1.mlp.*"}, "model.layers.1.mlp"));
  EXPECT_FALSE(matches({"model.layers.1.mlp.*"}, "model.layers.1.mlp2"));
}

TEST(ModulePatterns, AliasesWorkInEveryDirection) {
  const std::vector<std::string> roots = {"model.language_model.", "language_model.model.",
                                          "model."};
  for (const std::string& listed : roots) {
    for (const std::string& asked : roots) {
      for (const char* tail : {"layers.3.mlp", "layers.3.mlp*", "layers.3.mlp.*", "lay*.3.mlp*"}) {
        EXPECT_TRUE(matches({listed + tail}, asked + "layers.3.mlp.up_proj")) << listed << asked;
        EXPECT_FALSE(matches({listed + tail}, asked + "layers.30.mlp.up_proj")) << listed << asked;
      }
    }
  }
}

TEST(ModulePatterns, EmptyListAndEmptyEntriesMatchNothing) {
  EXPECT_FALSE(matches({}, "lm_head"));
  EXPECT_FALSE(matches({""}, "lm_head"));
  EXPECT_FALSE(matches({"mlp"}, ""));
}

}  // namespace
}  // namespace facet
