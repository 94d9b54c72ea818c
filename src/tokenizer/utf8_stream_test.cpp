#include "tokenizer/utf8_stream.h"

#include <gtest/gtest.h>
#include <random>
#include <vector>

#include "tests/utf8.h"
#include "tokenizer/test_vocab.h"

namespace facet {
namespace {

using test::is_utf8;
using test::TinyVocab;

std::string wellformed(std::string_view bytes) {
  std::string out;
  std::string held;
  append_wellformed(out, held, bytes);
  flush_unfinished(out, held);
  return out;
}

TEST(Utf8Stream, ReplacesEachMaximalSubpartOnce) {
  const std::string r = "\uFFFD";
  EXPECT_EQ(wellformed("a\u00e9\u20ac\U0001F600"), "a\u00e9\u20ac\U0001F600");
  EXPECT_EQ(wellformed("\xC3"), r);
  EXPECT_EQ(wellformed("\xC3x"), r + "x");
  EXPECT_EQ(wellformed("\xE2\x82x"), r + "x");
  EXPECT_EQ(wellformed("\xF0\x9F\x98x"), r + "x");
  EXPECT_EQ(wellformed("\xF0\x9F\x98\xF0\x9F\x98\x80"), r + "\U0001F600");
  EXPECT_EQ(wellformed("\x80\x80"), r + r);
  EXPECT_EQ(wellformed("\xC0\x80"), r + r);
  EXPECT_EQ(wellformed("\xC1\xBF"), r + r);
  EXPECT_EQ(wellformed("\xE0\x80\x80"), r + r + r);
  EXPECT_EQ(wellformed("\xE0\x9F\x80"), r + r + r);
  EXPECT_EQ(wellformed("\xED\xA0\x80"), r + r + r);
  EXPECT_EQ(wellformed("\xF0\x80\x80\x80"), r + r + r + r);
  EXPECT_EQ(wellformed("\xF4\x90\x80\x80"), r + r + r + r);
  EXPECT_EQ(wellformed("\xF5\xFF"), r + r);
  // Table 3-8 of Unicode 15.
  EXPECT_EQ(wellformed("a\xF1\x80\x80\xE1\x80\xC2\x62\x80\x63\x80\xBF\x64"),
            "a" + r + r + r + "b" + r + "c" + r + r + "d");
}

TEST(Utf8Stream, PiecesGiveWhatTheWholeGives) {
  std::mt19937 random(3);
  std::uniform_int_distribution<int> byte(0, 255);
  const std::string hard = "\x41\x80\xBF\xC2\xE0\xA0\xE2\xED\x9F\xF0\x90\xF4\x8F\xFF";
  for (int round = 0; round < 20'000; ++round) {
    std::string text;
    for (int i = 0; i < 12; ++i) {
      const int drawn = byte(random);
      text += drawn < 64 ? static_cast<char>(drawn * 4) : hard[static_cast<size_t>(drawn) % 14];
    }
    std::string out;
    std::string held;
    for (size_t at = 0; at < text.size();) {
      const size_t length = static_cast<size_t>(byte(random)) % 4;
      append_wellformed(out, held, std::string_view(text).substr(at, length));
      ASSERT_LE(held.size(), 3U);
      ASSERT_TRUE(is_utf8(out));
      at += length;
    }
    flush_unfinished(out, held);
    ASSERT_EQ(out, wellformed(text)) << printable(text);
  }
}

TinyVocab letters() {
  TinyVocab vocab;
  vocab.add_characters({"a", "\u2581", "\u20ac", "\U0001F600"});
  return vocab;
}

TEST(IncrementalDecoder, EqualsDecodeAndIsPrefixStable) {
  const Tokenizer tokenizer = letters().load();
  std::mt19937 random(5);
  std::uniform_int_distribution<int32_t> any(0, tokenizer.size() - 1);
  std::uniform_int_distribution<int32_t> tail(TinyVocab::kFirstByte + 0x80,
                                              TinyVocab::kFirstByte + 0xFF);
  for (int round = 0; round < 5000; ++round) {
    const ControlText control = round % 2 == 0 ? ControlText::kShow : ControlText::kDrop;
    IncrementalDecoder decoder(tokenizer, control);
    std::vector<TokenId> ids;
    std::string joined;
    for (int i = 0; i < 20; ++i) {
      const bool free_choice = round % 3 == 0 || i % 7 == 6;
      ids.push_back(TokenId{free_choice ? any(random) : tail(random)});
      const std::string text = decoder.push(ids.back());
      ASSERT_TRUE(is_utf8(text));
      joined += text;
      // What was sent stays: it starts the text of all ids so far.
      ASSERT_TRUE(tokenizer.decode(ids, control).starts_with(joined));
    }
    joined += decoder.flush();
    EXPECT_EQ(decoder.flush(), "");
    ASSERT_EQ(joined, tokenizer.decode(ids, control));
  }
}

TEST(IncrementalDecoder, HoldsUnfinishedCharactersBack) {
  const Tokenizer tokenizer = letters().load();
  const auto byte = [](int value) {
    return TokenId{static_cast<int32_t>(TinyVocab::kFirstByte) + value};
  };
  IncrementalDecoder decoder(tokenizer, ControlText::kShow);
  EXPECT_EQ(decoder.push(byte(0xF0)), "");
  EXPECT_EQ(decoder.push(byte(0x9F)), "");
  EXPECT_EQ(decoder.push(byte(0x98)), "");
  EXPECT_EQ(decoder.push(byte(0x80)), "\U0001F600");
  EXPECT_EQ(decoder.push(byte(0xE2)), "");
  EXPECT_EQ(decoder.push(byte('x')), "\uFFFDx");
  EXPECT_EQ(decoder.push(byte(0xE2)), "");
  EXPECT_EQ(decoder.push(TokenId{106}), "\uFFFD<turn|>");
  EXPECT_EQ(decoder.push(byte(0x82)), "\uFFFD");
  IncrementalDecoder silent(tokenizer);
  EXPECT_EQ(silent.push(byte(0xE2)), "");
  EXPECT_EQ(silent.push(TokenId{101}), "\uFFFD");
  EXPECT_EQ(silent.push(byte(0xE2)), "");
  EXPECT_EQ(silent.flush(), "\uFFFD");
  EXPECT_EQ(silent.push(TokenId{456}), "a");
}

}  // namespace
}  // namespace facet
