#include "traffic/plot.h"

#include <cmath>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <limits>
#include <string_view>

namespace facet {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

/// Why `text` is no well-formed XML of elements, attributes and text; empty if it is.
std::string xml_fault(std::string_view text) {
  std::vector<std::string> open;
  int roots = 0;
  while (!text.empty()) {
    if (text.front() != '<') {
      const std::string_view run = text.substr(0, text.find('<'));
      if (run.find('>') != run.npos) return "a bare > in: " + std::string(run);
      for (size_t at = run.find('&'); at != run.npos; at = run.find('&', at + 1)) {
        if (run.find(';', at) > at + 5) return "a bare & in: " + std::string(run);
      }
      if (open.empty() && run.find_first_not_of("\n") != run.npos) return "text outside the root";
      text.remove_prefix(run.size());
      continue;
    }
    const size_t end = text.find('>');
    if (end == text.npos) return "an open tag";
    std::string_view tag = text.substr(1, end - 1);
    text.remove_prefix(end + 1);
    if (tag.find('<') != tag.npos) return "a < in the tag: " + std::string(tag);
    if (tag.starts_with('/')) {
      if (open.empty() || open.back() != tag.substr(1)) return "wrong end: " + std::string(tag);
      open.pop_back();
      continue;
    }
    const bool empty = tag.ends_with('/');
    if (empty) tag.remove_suffix(1);
    const std::string name(tag.substr(0, tag.find(' ')));
    for (tag.remove_prefix(name.size()); !tag.empty();) {
      if (tag == " ") break;
      const size_t equals = tag.find("=\"");
      const size_t close = equals == tag.npos ? tag.npos : tag.find('"', equals + 2);
      if (tag.front() != ' ' || close == tag.npos) return "a broken attribute in " + name;
      tag.remove_prefix(close + 1);
    }
    if (open.empty() && ++roots > 1) return "two roots";
    if (!empty) open.push_back(name);
  }
  return open.empty() && roots == 1 ? "" : "elements stay open";
}

TEST(Plot, TheCheckOfXmlFindsFaults) {
  EXPECT_EQ(xml_fault("<a b=\"1\"><c/>x &lt;</a>\n"), "");
  for (const char* text : {"<a>", "<a></b>", "<a>&</a>", "<a/><a/>", "<a b=1/>", "<a b=\"1/>", "x",
                           "<a>></a>", "<a"}) {
    EXPECT_NE(xml_fault(text), "") << text;
  }
}

TEST(Plot, IsWellFormedWhateverItHolds) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const std::string text =
      svg({.title = "a <b> & \"c\"\n",
           .subtitle = "</svg>",
           .x_title = "1 < 2",
           .x = {1, 2, 4, 8, 16},
           .panels = {{"T & <", {{"p<50>", {1, 2, nan, 4, 5}}, {"none", {nan}}}},
                      {"empty", {}},
                      {"zero", {{"z", {0, 0, 0, 0, 0}}}}}});
  EXPECT_EQ(xml_fault(text), "");
  EXPECT_THAT(text, HasSubstr("a &lt;b&gt; &amp; &quot;c&quot; "));
  EXPECT_THAT(text, Not(HasSubstr("nan")));
  EXPECT_THAT(text, Not(HasSubstr("inf")));
}

TEST(Plot, OneLevelIsAPoint) {
  const std::string text = svg({.x = {4}, .panels = {{"t", {{"c", {3}}}}}});
  EXPECT_EQ(xml_fault(text), "");
  EXPECT_THAT(text, HasSubstr("<circle"));
  EXPECT_THAT(text, Not(HasSubstr("nan")));
}

TEST(Plot, TicksAreRound) {
  EXPECT_THAT(round_ticks(8), ElementsAre(0, 1, 2, 3, 4, 5, 6, 7, 8));
  EXPECT_THAT(round_ticks(100), ElementsAre(0, 20, 40, 60, 80, 100));
  for (const double most : {1e-6, 0.013, 0.9, 1.0, 3.3, 41.0, 99.0, 12345.0, 8e9}) {
    const std::vector<double> ticks = round_ticks(most);
    EXPECT_GE(ticks.size(), 5u) << most;
    EXPECT_LE(ticks.size(), 9u) << most;
    EXPECT_GE(ticks.back(), most * (1 - 1e-6));
    EXPECT_LT(ticks[ticks.size() - 2], most);
  }
}

}  // namespace
}  // namespace facet
