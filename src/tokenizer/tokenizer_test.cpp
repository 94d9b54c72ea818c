#include "tokenizer/tokenizer.h"

#include <ctime>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <random>

#include "base/error.h"
#include "base/text.h"
#include "tokenizer/bpe.h"
#include "tokenizer/test_vocab.h"
#include "tokenizer/vocabulary.h"

namespace facet {
namespace {

using test::indices;
using test::random_text;
using test::TinyVocab;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr int32_t kA = 456;

/// Characters a b c ▁ \n < / > at 456 and up, then "ab" 464, "bc" 465, "abc" 466, "aa" 467.
TinyVocab letters() {
  TinyVocab vocab;
  vocab.add_characters({"a", "b", "c", "\u2581", "\n", "<", "/", ">"});
  vocab.merge("a", "b");
  vocab.merge("b", "c");
  vocab.merge("ab", "c");
  vocab.merge("a", "a");
  return vocab;
}

TEST(Tokenizer, MergesByRankThenFromTheLeft) {
  const Tokenizer tokenizer = letters().load();
  EXPECT_THAT(indices(tokenizer.encode("")), IsEmpty());
  EXPECT_THAT(indices(tokenizer.encode("abc")), ElementsAre(466));
  EXPECT_THAT(indices(tokenizer.encode("bc")), ElementsAre(465));
  EXPECT_THAT(indices(tokenizer.encode("aaa")), ElementsAre(467, kA));
  EXPECT_THAT(indices(tokenizer.encode("aaab")), ElementsAre(467, 464));
  EXPECT_THAT(indices(tokenizer.encode("aab")), ElementsAre(kA, 464));
}

TEST(Tokenizer, LongWordsMergeAsShortOnesDo) {
  const Tokenizer tokenizer = letters().load();
  for (const size_t count : {24U, 25U, 48U, 49U, 50U, 99U, 1001U}) {
    std::string text;
    std::vector<int32_t> wanted;
    for (size_t i = 0; i < count; ++i) {
      text += "aab";
      wanted.insert(wanted.end(), {kA, 464});
    }
    EXPECT_EQ(indices(tokenizer.encode(text)), wanted) << count;
    const std::vector<int32_t> pairs(count, 467);
    EXPECT_EQ(indices(tokenizer.encode(std::string(2 * count, 'a'))), pairs) << count;
  }
}

TEST(Tokenizer, UnknownCharactersAndStrayBytesBecomeByteTokens) {
  const Tokenizer tokenizer = letters().load();
  const auto byte = [](int32_t value) {
    return static_cast<int32_t>(TinyVocab::kFirstByte) + value;
  };
  EXPECT_THAT(indices(tokenizer.encode("a\u00e9")), ElementsAre(kA, byte(0xC3), byte(0xA9)));
  EXPECT_THAT(indices(tokenizer.encode("\xC3")), ElementsAre(byte(0xC3)));
  EXPECT_THAT(indices(tokenizer.encode("\xE2\x96")), ElementsAre(byte(0xE2), byte(0x96)));
  EXPECT_THAT(indices(tokenizer.encode("\xF0\xE2\x96\x81")), ElementsAre(byte(0xF0), 459));
  EXPECT_THAT(indices(tokenizer.encode("\xED\xA0\x80")),
              ElementsAre(byte(0xED), byte(0xA0), byte(0x80)));
  EXPECT_THAT(indices(tokenizer.encode(std::string_view("\0", 1))), ElementsAre(byte(0)));
  // The name of a byte token is text like any other.
  EXPECT_EQ(tokenizer.decode(tokenizer.encode("<0x41>"), ControlText::kShow), "<0x41>");
}

TEST(Tokenizer, SpacesAndTheirMarkAreTheSame) {
  const Tokenizer tokenizer = letters().load();
  EXPECT_THAT(indices(tokenizer.encode(" a")), ElementsAre(459, kA));
  EXPECT_EQ(tokenizer.encode("a  \u2581b"), tokenizer.encode("a\u2581 \u2581b"));
  EXPECT_EQ(tokenizer.decode(tokenizer.encode("\u2581a"), ControlText::kDrop), " a");
  EXPECT_EQ(tokenizer.bytes_of(TokenId{459}), " ");
  EXPECT_EQ(tokenizer.piece(TokenId{459}), "\u2581");
}

TEST(Tokenizer, IgnoredControlTokensAreText) {
  const Tokenizer tokenizer = letters().load();
  for (const ControlToken& token : kControlTokens) {
    for (const TokenId id : tokenizer.encode(token.text)) EXPECT_FALSE(tokenizer.is_control(id));
    EXPECT_EQ(tokenizer.decode(tokenizer.encode(token.text), ControlText::kDrop), token.text);
  }
}

TEST(Tokenizer, RecognisesTheLeftmostLongestControlToken) {
  TinyVocab vocab = letters();
  const auto turn_a = static_cast<int32_t>(vocab.next);
  vocab.add_control(vocab.next++, "<|turn>a");
  const Tokenizer tokenizer = vocab.load();
  const auto encode = [&](std::string_view text) {
    return indices(tokenizer.encode(text, ControlTokens::kRecognise));
  };
  EXPECT_THAT(encode("<bos>"), ElementsAre(2));
  EXPECT_THAT(encode("a<bos><bos> b"), ElementsAre(kA, 2, 2, 459, 457));
  EXPECT_THAT(encode("<|turn>b"), ElementsAre(105, 457));
  EXPECT_THAT(encode("<|turn>ab"), ElementsAre(turn_a, 457));
  EXPECT_THAT(encode("<<eos>>"), ElementsAre(461, 1, 463));
  // Merges do not cross it.
  EXPECT_THAT(encode("a<pad>b"), ElementsAre(kA, 0, 457));
  EXPECT_EQ(encode("<|imag"), indices(tokenizer.encode("<|imag")));
}

TEST(Tokenizer, HonoursTheFlagsOfControlTokens) {
  TinyVocab vocab = letters();
  const auto extra = static_cast<int32_t>(vocab.next);
  auto& flags = vocab.add_control(vocab.next++, "<x>");
  const auto encode = [&](std::string_view text) {
    return indices(vocab.load().encode(text, ControlTokens::kRecognise));
  };
  EXPECT_THAT(encode("a <x> b"), ElementsAre(kA, 459, extra, 459, 457));
  flags["lstrip"] = true;
  EXPECT_THAT(encode("a \n\u3000<x> b"), ElementsAre(kA, extra, 459, 457));
  EXPECT_THAT(encode("  <x>"), ElementsAre(extra));
  flags["lstrip"] = false;
  flags["rstrip"] = true;
  EXPECT_THAT(encode("a <x> \u00a0\tb"), ElementsAre(kA, 459, extra, 457));
  flags["lstrip"] = true;
  EXPECT_THAT(encode("<x>  <x>  "), ElementsAre(extra, extra));
  flags["lstrip"] = flags["rstrip"] = false;
  flags["single_word"] = true;
  EXPECT_THAT(encode("<x> <x>"), ElementsAre(extra, 459, extra));
  EXPECT_THAT(encode("/<x>/"), ElementsAre(462, extra, 462));
  EXPECT_EQ(encode("a<x>"), indices(vocab.load().encode("a<x>")));
  EXPECT_EQ(encode("<x>\u00e9"), indices(vocab.load().encode("<x>\u00e9")));
  EXPECT_THAT(encode("<bos><x>\u3000"), ::testing::Contains(extra));
}

TEST(Tokenizer, IdsOutsideAreRefused) {
  const Tokenizer tokenizer = letters().load();
  for (const TokenId id : {TokenId{-1}, TokenId{tokenizer.size()}, TokenId{INT32_MAX}}) {
    EXPECT_THROW(tokenizer.bytes_of(id), Error);
    EXPECT_THROW(tokenizer.piece(id), Error);
    EXPECT_THROW(tokenizer.is_control(id), Error);
    EXPECT_THROW(tokenizer.control_text(id), Error);
    const std::vector<TokenId> ids{id};
    EXPECT_THROW(tokenizer.decode(ids, ControlText::kDrop), Error);
    EXPECT_THROW(IncrementalDecoder(tokenizer).push(id), Error);
  }
}

/// Encoded with cuts and with cuts and a cache, a text must give what it gives as one word.
void expect_cuts_exact(const std::string& json, const std::vector<std::string>& parts) {
  const auto vocabulary = Vocabulary::parse(json);
  const Tokenizer tokenizer = Tokenizer::parse(json);
  Encoder encoder(tokenizer);
  std::mt19937 random(7);
  for (int round = 0; round < 3000; ++round) {
    const std::string text = random_text(random, parts, 1 + static_cast<size_t>(round) % 60);
    std::vector<TokenId> whole;
    encode_word(*vocabulary, text, whole);
    std::vector<TokenId> cached;
    encoder.encode(text, ControlTokens::kIgnore, cached);
    ASSERT_EQ(indices(tokenizer.encode(text)), indices(whole)) << printable(text);
    ASSERT_EQ(indices(cached), indices(whole)) << printable(text);
  }
}

const std::vector<std::string> kHardParts = {
    "a",    "b",    "c",        " ",    "  ",        "\u2581",     "\n",     "\n\n",
    "<",    "/",    ">",        "> </", ">\u2581</", "\t",         "\u00e9", "\xE2",
    "\x96", "\x81", "\xE2\x96", "\xFF", "\r",        "\U0001F600", "<0x0A>", "<bos>"};

TEST(Tokenizer, CutsAreExactWhereMergesCrossThem) {
  expect_cuts_exact(letters().text(), kHardParts);
  TinyVocab crossing = letters();
  crossing.merge("\u2581", "<");
  crossing.merge("\u2581<", "/");
  crossing.merge(">", "\u2581</");
  crossing.merge("a", "\n");
  crossing.merge("\n", "\n");
  crossing.merge("\n\n", "b");
  crossing.merge("\n", "\u2581");
  crossing.merge("\u2581", "\u2581");
  crossing.merge("\u2581\u2581", "\n");
  crossing.merge("c", "\u2581\u2581");
  crossing.merge("c\u2581\u2581", "a");
  expect_cuts_exact(crossing.text(), kHardParts);
  EXPECT_THAT(indices(crossing.load().encode("> </")), ElementsAre(470));
}

TEST(Tokenizer, CutsAreExactWhereMostMergesCrossThem) {
  TinyVocab vocab = letters();
  for (char c = '!'; c <= '~'; ++c) {
    const std::string letter(1, c);
    vocab.add(letter);
    vocab.merge(letter, "\u2581");
  }
  expect_cuts_exact(vocab.text(), kHardParts);
  vocab = letters();
  for (char c = '!'; c <= '~'; ++c) {
    const std::string letter(1, c);
    vocab.add(letter);
    vocab.merge("\n", letter);
  }
  expect_cuts_exact(vocab.text(), kHardParts);
}

TEST(Tokenizer, AnEncoderRemembersNothingWrong) {
  const Tokenizer tokenizer = letters().load();
  Encoder encoder(tokenizer);
  std::mt19937 random(11);
  // Many more words than the table has places, of lengths around its limits.
  for (int round = 0; round < 60'000; ++round) {
    const std::string word =
        random_text(random, {"a", "b", "c", "\u00e9"}, 1 + static_cast<size_t>(round) % 34);
    std::vector<TokenId> ids{TokenId{0}};
    encoder.encode(word, ControlTokens::kIgnore, ids);
    ASSERT_EQ(ids.front(), TokenId{0});
    ids.erase(ids.begin());
    ASSERT_EQ(indices(ids), indices(tokenizer.encode(word))) << word;
  }
  // Words that differ in zero bytes only.
  for (const std::string_view word : {std::string_view("a\0", 2), std::string_view("a", 1),
                                      std::string_view("a\0\0", 3), std::string_view("a\0", 2)}) {
    std::vector<TokenId> ids;
    encoder.encode(word, ControlTokens::kIgnore, ids);
    EXPECT_EQ(ids.size(), word.size());
  }
}

TEST(Tokenizer, AMegabyteOfAnythingTakesNoQuadraticTime) {
  TinyVocab vocab = letters();
  for (const char* unit : {"a", "\n", "\u2581"}) {
    std::string run = unit;
    for (int doubling = 0; doubling < 5; ++doubling) {
      if (run != "a") vocab.merge(run, run);
      run += run;
    }
  }
  vocab.merge("\u2581", "<");
  vocab.merge("\u2581<", "/");
  vocab.merge(">", "\u2581</");
  const Tokenizer tokenizer = vocab.load();
  for (const std::string unit : {"a", "\n", " ", "\u2581", "\U0001F600", "\u00e9", "\xFF", "ab",
                                 "> </", ">", "<", "<|turn", " \n", "<bos>", "abc\n"}) {
    std::string text;
    while (text.size() < 1'000'000) text += unit;
    const std::clock_t start = std::clock();  // processor time: other programs do not count
    const auto ids = tokenizer.encode(text, ControlTokens::kRecognise);
    const std::string back = tokenizer.decode(ids, ControlText::kShow);
    EXPECT_LT(std::clock() - start, 10 * CLOCKS_PER_SEC) << printable(unit);
    if (unit != "\u2581" && unit != "\xFF") EXPECT_EQ(back, text) << printable(unit);
  }
}

}  // namespace
}  // namespace facet
