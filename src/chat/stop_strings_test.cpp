#include "chat/stop_strings.h"

#include <gtest/gtest.h>
#include <random>

namespace facet {
namespace {

struct Found {
  std::string text;
  std::optional<std::string> stop;
  bool operator==(const Found&) const = default;
};

std::ostream& operator<<(std::ostream& out, const Found& found) {
  return out << "'" << found.text << "' stop " << found.stop.value_or("none");
}

// `cuts` has bit i set where a new piece begins at byte i + 1.
Found find(const std::vector<std::string>& stops,
           const std::string& text,
           uint64_t cuts,
           StopText mode = StopText::kCut) {
  StopStrings matcher(stops, mode);
  Found found;
  std::string piece;
  for (size_t i = 0; i < text.size(); ++i) {
    piece += text[i];
    if ((cuts >> i & 1) == 0 && i + 1 < text.size()) continue;
    found.text += matcher.push(piece);
    piece.clear();
  }
  found.text += matcher.flush();
  found.stop = matcher.matched();
  return found;
}

// The definition: the leftmost match, and of several there the shortest.
Found expected(const std::vector<std::string>& stops, const std::string& text) {
  for (size_t i = 0; i < text.size(); ++i) {
    const std::string* best = nullptr;
    for (const std::string& stop : stops) {
      if (stop.empty() || text.compare(i, stop.size(), stop) != 0) continue;
      if (best == nullptr || stop.size() < best->size()) best = &stop;
    }
    if (best != nullptr) return {text.substr(0, i), *best};
  }
  return {text, std::nullopt};
}

TEST(StopStrings, HoldsBackOnlyWhatMayMatch) {
  StopStrings matcher({"END", "\n\n"});
  EXPECT_EQ(matcher.push("abE"), "ab");
  EXPECT_EQ(matcher.push("N"), "");
  EXPECT_EQ(matcher.push("T\n"), "ENT");
  EXPECT_EQ(matcher.push("x"), "\nx");
  EXPECT_EQ(matcher.push("E"), "");
  EXPECT_EQ(matcher.flush(), "E");
  EXPECT_FALSE(matcher.matched());
}

TEST(StopStrings, CutsTheMatchAndAllAfterIt) {
  StopStrings matcher({"END"});
  EXPECT_EQ(matcher.push("a EN"), "a ");
  EXPECT_EQ(matcher.push("D b"), "");
  EXPECT_EQ(matcher.matched(), "END");
  EXPECT_EQ(matcher.push("more END"), "");
  EXPECT_EQ(matcher.flush(), "");
}

TEST(StopStrings, KeepsTheMatchIfAsked) {
  EXPECT_EQ(find({"END"}, "aENDb", ~0ULL, StopText::kKeep), (Found{"aEND", "END"}));
  EXPECT_EQ(find({"END"}, "aENDb", 0, StopText::kKeep), (Found{"aEND", "END"}));
}

TEST(StopStrings, EarliestStartWinsAndAFailedOneGivesWay) {
  EXPECT_EQ(find({"bc", "abcd"}, "xabcdy", ~0ULL), (Found{"x", "abcd"}));
  EXPECT_EQ(find({"bc", "abcd"}, "xabcy", ~0ULL), (Found{"xa", "bc"}));
  // The end decides too: "abcd" can no longer come.
  EXPECT_EQ(find({"bc", "abcd"}, "xabc", ~0ULL), (Found{"xa", "bc"}));
  EXPECT_EQ(find({"aab"}, "aaab", ~0ULL), (Found{"a", "aab"}));
}

TEST(StopStrings, EmptyStringsNeverMatch) {
  EXPECT_EQ(find({""}, "abc", 0), (Found{"abc", std::nullopt}));
  EXPECT_EQ(find({}, "abc", 0), (Found{"abc", std::nullopt}));
}

TEST(StopStrings, NoSplitChangesTheResult) {
  std::mt19937 random(7);
  const auto word = [&random](size_t longest) {
    std::string text(random() % (longest + 1), ' ');
    for (char& c : text) c = static_cast<char>('a' + random() % 3);
    return text;
  };
  int32_t matches = 0;
  for (int32_t round = 0; round < 20000; ++round) {
    std::vector<std::string> stops;
    for (size_t i = random() % 4; i > 0; --i) stops.push_back(word(5));
    const std::string text = word(14);
    const Found want = expected(stops, text);
    matches += want.stop ? 1 : 0;
    for (const uint64_t cuts : {uint64_t{0}, ~uint64_t{0}, uint64_t{random()}}) {
      ASSERT_EQ(find(stops, text, cuts), want) << text << " round " << round;
    }
  }
  EXPECT_GT(matches, 5000);
  EXPECT_LT(matches, 15000);
}

}  // namespace
}  // namespace facet
