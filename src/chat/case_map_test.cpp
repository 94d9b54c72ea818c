#include "chat/case_map.h"

#include <cstdint>
#include <gtest/gtest.h>
#include <string>

#include "base/text.h"

namespace facet {
namespace {

/// FNV-1a over the texts, each followed by a zero byte.
class Digest {
 public:
  void add(const std::string& text) {
    for (const char c : text) mix(static_cast<uint8_t>(c));
    mix(0);
  }
  uint64_t value() const { return value_; }

 private:
  void mix(uint8_t byte) { value_ = (value_ ^ byte) * 0x100000001B3U; }

  uint64_t value_ = 0xCBF29CE484222325U;
};

template <typename Map>
uint64_t digest_of_all(Map&& map) {
  Digest digest;
  for (uint32_t code = 0; code < 0x110000; ++code) {
    if (code >= 0xD800 && code < 0xE000) continue;
    std::string text;
    append_utf8(text, code);
    digest.add(map(text));
  }
  return digest.value();
}

// The digests are those that tools/make_case_tables.py --digest prints: Python's own answers.
TEST(CaseMap, AllCodePointsAsPython) {
  EXPECT_EQ(digest_of_all([](const std::string& c) { return to_lower(c); }), 0xDE73778C0D8D4C9CU);
  EXPECT_EQ(digest_of_all([](const std::string& c) { return to_upper(c); }), 0x4D01F625CE40B230U);
}

TEST(CaseMap, SigmaBesideEveryCodePointAsPython) {
  const auto around = [](const std::string& c) {
    return to_lower("A" + c + "\u03A3" + c + " " + c + "\u03A3" + c + "B");
  };
  EXPECT_EQ(digest_of_all(around), 0xB029F89B918CA990U);
}

TEST(CaseMap, Samples) {
  EXPECT_EQ(to_upper("straße ﬁ ŉ ΐ"), "STRASSE FI ʼN Ι\u0308\u0301");
  EXPECT_EQ(to_lower("İI"), "i̇i");
  EXPECT_EQ(to_lower("ΣΑΣ ΣΑΣ.Σ"), "σας σασ.ς");
  EXPECT_EQ(to_lower("Σ"), "σ");
  EXPECT_EQ(to_lower("ΑΣ́"), "ας́");
  EXPECT_EQ(to_upper("\U00010428"), "\U00010400");
  EXPECT_EQ(to_upper("ı"), "I");
  EXPECT_EQ(to_lower(""), "");
}

TEST(CaseMap, BytesThatAreNotUtf8Stay) {
  EXPECT_EQ(to_lower("A\xFF\xC3"), "a\xFF\xC3");
  EXPECT_EQ(to_upper("a\xFF\xE2\x82"), "A\xFF\xE2\x82");
}

TEST(CaseMap, RunsOfIgnorableCharactersTakeLinearTime) {
  std::string text;
  for (int i = 0; i < 200; ++i) text += "Σ" + std::string(2000, '\'');
  EXPECT_EQ(to_lower(text).size(), text.size());
}

}  // namespace
}  // namespace facet
