#include "base/text.h"

#include <gtest/gtest.h>

namespace facet {
namespace {

TEST(Text, PrintableEscapesControlsAndBrokenUtf8) {
  EXPECT_EQ(printable("a\nb\x1b[31m"), "a\\x0ab\\x1b[31m");
  EXPECT_EQ(printable("gr\xc3\xbc\xc3"), "grü\\xc3");
  EXPECT_EQ(printable("\xc2\x9b"), "\\xc2\\x9b");
  EXPECT_EQ(printable("abcdef", 3), "abc…");
}

TEST(Text, Utf8LengthRefusesIllFormedBytes) {
  EXPECT_EQ(utf8_length("a"), 1u);
  EXPECT_EQ(utf8_length("é"), 2u);
  EXPECT_EQ(utf8_length("北"), 3u);
  EXPECT_EQ(utf8_length("🦙"), 4u);
  EXPECT_EQ(utf8_length("\xc0\x80"), 0u) << "overlong";
  EXPECT_EQ(utf8_length("\xed\xa0\x80"), 0u) << "surrogate";
  EXPECT_EQ(utf8_length("\xf4\x90\x80\x80"), 0u) << "above U+10FFFF";
  EXPECT_EQ(utf8_length("\xe5\x8c"), 0u) << "cut off";
  EXPECT_EQ(utf8_length(""), 0u);
}

TEST(Text, AppendUtf8RoundTrips) {
  std::string text;
  for (const uint32_t c : {0x41u, 0xE9u, 0x5317u, 0x1F999u}) append_utf8(text, c);
  EXPECT_EQ(text, "Aé北🦙");
}

TEST(Text, HumanBytes) {
  EXPECT_EQ(human_bytes(37), "37 B");
  EXPECT_EQ(human_bytes(1234), "1.2 kB");
  EXPECT_EQ(human_bytes(17'636'771'900), "17.6 GB");
}

}  // namespace
}  // namespace facet
