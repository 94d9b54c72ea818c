// Every reason for which a tokenizer.json is refused, and what is accepted in its place.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "tests/support.h"
#include "tokenizer/test_vocab.h"
#include "tokenizer/tokenizer.h"

namespace facet {
namespace {

using boost::json::object;
using test::TinyVocab;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

/// The message with which `json` is refused; "" if it is not.
std::string refusal(std::string_view json) {
  try {
    Tokenizer::parse(json);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kBadCheckpoint);
    return error.what();
  }
  return "";
}

std::string refusal(const TinyVocab& vocab) { return refusal(vocab.text()); }

TinyVocab letters() {
  TinyVocab vocab;
  vocab.add_characters({"a", "b", "c", "\u2581", "\n"});
  vocab.merge("a", "b");
  return vocab;
}

std::string replaced(std::string text, std::string_view from, std::string_view to) {
  const size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return at == std::string::npos ? text : text.replace(at, from.size(), to);
}

TEST(Vocabulary, LoadsWhatTheOtherTestsBreak) {
  const Tokenizer tokenizer = letters().load();
  EXPECT_EQ(tokenizer.size(), TinyVocab::kFirstFree + 6);
  EXPECT_FALSE(tokenizer.has_media());
  EXPECT_EQ(tokenizer.piece(TokenId{461}), "ab");
}

TEST(Vocabulary, RefusesTextThatIsNotOneJsonDocument) {
  const std::string good = letters().text();
  ASSERT_EQ(refusal(good), "");
  EXPECT_THAT(refusal(""), HasSubstr("cut off"));
  EXPECT_THAT(refusal("{"), HasSubstr("cut off"));
  EXPECT_THAT(refusal(good.substr(0, good.size() - 1)), HasSubstr("cut off"));
  EXPECT_THAT(refusal(good + "{}"), HasSubstr("text after the end"));
  EXPECT_THAT(refusal(replaced(good, "\"a\"", "\"\xFF\"")), HasSubstr("ill-formed UTF-8"));
  EXPECT_THAT(refusal(replaced(good, ":", "=")), HasSubstr("not JSON"));
  EXPECT_THAT(refusal("[]"), HasSubstr("missing"));
  EXPECT_THAT(refusal("null"), HasSubstr("missing"));
  EXPECT_THAT(refusal(std::string(100'000, '[')), HasSubstr("nested more than"));
  for (size_t cut = 0; cut < good.size(); cut += 97) {
    EXPECT_NE(refusal(good.substr(0, cut)), "") << cut;
  }
}

TEST(Vocabulary, RefusesMissingAndMisplacedParts) {
  const std::string good = letters().text();
  EXPECT_THAT(refusal(replaced(good, "\"vocab\":", "\"other\":")),
              HasSubstr("model.vocab is miss"));
  EXPECT_THAT(refusal(replaced(good, "\"merges\":", "\"other\":")),
              HasSubstr("model.merges is mi"));
  EXPECT_THAT(refusal(replaced(good, "\"added_tokens\":", "\"x\":")),
              HasSubstr("added_tokens is m"));
  EXPECT_THAT(refusal(R"({"model":{"vocab":[],"merges":[]},"added_tokens":[]})"),
              HasSubstr("model.vocab is missing"));
  EXPECT_THAT(refusal(R"({"model":{"vocab":"present","merges":[]},"added_tokens":[]})"),
              HasSubstr("model.vocab is"));
  EXPECT_THAT(refusal(R"({"model":{"vocab":{},"merges":[]},"added_tokens":null})"),
              HasSubstr("added_tokens is null"));
  EXPECT_THAT(refusal(replaced(good, "\"vocab\":{", "\"vocab\":{},\"vocab\":{")),
              HasSubstr("model.vocab appears twice"));
  EXPECT_THAT(refusal(replaced(good, "\"type\":\"BPE\"", "\"type\":\"BPE\",\"type\":\"BPE\"")),
              HasSubstr("model.type appears twice"));
}

TEST(Vocabulary, RefusesValuesOfTheWrongKind) {
  const std::string good = letters().text();
  for (const char* value : {"\"1\"", "1.5", "null", "true", "{}", "[]", "18446744073709551615"}) {
    const std::string id = std::string("\"a\":") + value;
    EXPECT_THAT(refusal(replaced(good, "\"a\":456", id)), HasSubstr("model.vocab: a is")) << value;
  }
  const std::string merge = R"(["a","b"])";
  for (const char* value : {"[]", "[\"a\"]", "[\"a\",\"b\",\"c\"]", "[\"a\",1]", "[\"a\",[\"b\"]]",
                            "null", "7", "{}", "\"ab\"", "\"a b c\"", "\"a  b\""}) {
    EXPECT_THAT(refusal(replaced(good, merge, value)), HasSubstr("merge 0")) << value;
  }
  EXPECT_EQ(refusal(replaced(good, merge, "\"a b\"")), "");
  for (const char* value :
       {"\"id\":\"0\"", "\"id\":-1", "\"id\":null", "\"id\":{}", "\"id\":0.5"}) {
    EXPECT_THAT(refusal(replaced(good, "\"id\":0", value)), HasSubstr("added_tokens")) << value;
  }
  EXPECT_THAT(refusal(replaced(good, "\"lstrip\":false", "\"lstrip\":1")), HasSubstr("lstrip"));
  EXPECT_THAT(refusal(replaced(good, "\"content\":\"<pad>\",", "")), HasSubstr("lacks id or cont"));
  EXPECT_THAT(refusal(replaced(good, "\"content\":\"<pad>\"", "\"content\":\"\"")),
              HasSubstr("lacks id or content"));
}

TEST(Vocabulary, RefusesModelsThatEncodeOtherwise) {
  const auto with = [](std::string_view key, boost::json::value value) {
    TinyVocab vocab = letters();
    vocab.model[key] = std::move(value);
    return refusal(vocab);
  };
  EXPECT_THAT(with("type", "Unigram"), HasSubstr("model.type is \"Unigram\", wanted \"BPE\""));
  EXPECT_THAT(with("byte_fallback", false), HasSubstr("model.byte_fallback is false"));
  EXPECT_THAT(with("dropout", 0.1), HasSubstr("model.dropout"));
  EXPECT_THAT(with("ignore_merges", true), HasSubstr("model.ignore_merges"));
  EXPECT_THAT(with("continuing_subword_prefix", "##"), HasSubstr("continuing_subword_prefix"));
  EXPECT_THAT(with("end_of_word_suffix", "</w>"), HasSubstr("end_of_word_suffix"));

  TinyVocab no_type = letters();
  no_type.model.erase("byte_fallback");
  EXPECT_THAT(refusal(no_type), HasSubstr("model.byte_fallback is absent"));
  TinyVocab normalizer = letters();
  normalizer.normalizer = nullptr;
  EXPECT_THAT(refusal(normalizer), HasSubstr("normalizer.type"));
  normalizer.normalizer = object{{"type", "NFKC"}};
  EXPECT_THAT(refusal(normalizer), HasSubstr("normalizer.type is \"NFKC\""));
  TinyVocab splits = letters();
  splits.pre_tokenizer = object{{"type", "ByteLevel"}};
  EXPECT_THAT(refusal(splits), HasSubstr("pre_tokenizer.type"));
  splits.pre_tokenizer = object{{"type", "Split"},
                                {"pattern", {{"String", " "}}},
                                {"behavior", "MergedWithPrevious"},
                                {"invert", false}};
  EXPECT_EQ(refusal(splits), "");
}

TEST(Vocabulary, RefusesMissingAndDoubleIds) {
  TinyVocab gap = letters();
  gap.vocab["z"] = gap.next + 1;
  gap.vocab["y"] = gap.next + 2;
  EXPECT_THAT(refusal(gap), HasSubstr("id 462 is missing"));
  TinyVocab twice = letters();
  twice.vocab["z"] = 457;
  EXPECT_THAT(refusal(twice), AllOf(HasSubstr("id 457"), HasSubstr("b and z")));
  TinyVocab negative = letters();
  negative.vocab["z"] = -1;
  EXPECT_THAT(refusal(negative), HasSubstr("-1"));
  TinyVocab huge = letters();
  huge.vocab["z"] = int64_t{1} << 40;
  EXPECT_NE(refusal(huge), "");
  huge.vocab["z"] = int64_t{1'000'000};
  EXPECT_THAT(refusal(huge), HasSubstr("the last id is 1000000"));
  const std::string good = letters().text();
  EXPECT_THAT(refusal(replaced(good, "\"a\":456", "\"a\":456,\"a\":462")), HasSubstr("are both a"));
  EXPECT_THAT(refusal(replaced(good, "\"a\":456", "\"a\":456,\"\":462")), HasSubstr("empty text"));
  // Escapes do not hide a double.
  EXPECT_THAT(refusal(replaced(good, "\"a\":456", "\"a\":456,\"\\u0061\":462")),
              HasSubstr("are both a"));
}

TEST(Vocabulary, RefusesMissingByteTokens) {
  TinyVocab vocab = letters();
  vocab.vocab.erase("<0xA7>");
  vocab.vocab["<0xa7>"] = TinyVocab::kFirstByte + 0xA7;
  EXPECT_THAT(refusal(vocab), HasSubstr("<0xA7>"));
}

TEST(Vocabulary, RefusesMergesThatCannotBe) {
  TinyVocab left = letters();
  left.add("zb");
  left.merges.push_back(boost::json::array{"z", "b"});
  EXPECT_THAT(refusal(left), HasSubstr("merge 1 takes z"));
  TinyVocab right = letters();
  right.add("bz");
  right.merges.push_back(boost::json::array{"b", "z"});
  EXPECT_THAT(refusal(right), HasSubstr("merge 1 takes z"));
  TinyVocab result = letters();
  result.merges.push_back(boost::json::array{"b", "c"});
  EXPECT_THAT(refusal(result), HasSubstr("merge 1 makes bc"));
  TinyVocab empty = letters();
  empty.merges.push_back(boost::json::array{"", "a"});
  EXPECT_THAT(refusal(empty), HasSubstr("merge 1 takes"));
  TinyVocab twice = letters();
  twice.merge("a", "b");
  EXPECT_THAT(refusal(twice), HasSubstr("merge 1 is merge 0 again"));
  TinyVocab control = letters();
  control.add_characters({"<", "bos>"});
  control.merge("<", "bos>");
  EXPECT_THAT(refusal(control), HasSubstr("makes id 2"));
  TinyVocab byte = letters();
  byte.merge("<0x61>", "b");
  EXPECT_THAT(refusal(byte), HasSubstr("takes or makes id 297"));
}

TEST(Vocabulary, RefusesOtherControlTokens) {
  TinyVocab missing = letters();
  missing.added.erase(missing.added.begin() + 8);
  EXPECT_THAT(refusal(missing), HasSubstr("<tool_call|> (id 49) is missing"));
  TinyVocab moved = letters();
  moved.vocab["<|turn>"] = 462;
  moved.vocab["<other>"] = 105;
  for (auto& token : moved.added) {
    if (token.at("id").as_int64() == 105) token.at("id") = 462;
  }
  EXPECT_THAT(refusal(moved), AllOf(HasSubstr("id 462 is <|turn>"), HasSubstr("id 105")));
  TinyVocab renamed = letters();
  renamed.added[1].as_object()["content"] = "</s>";
  renamed.vocab.erase("<eos>");
  renamed.vocab["</s>"] = 1;
  EXPECT_THAT(refusal(renamed), AllOf(HasSubstr("id 1 is </s>"), HasSubstr("<eos>")));
  TinyVocab disagreeing = letters();
  disagreeing.vocab.erase("<eos>");
  disagreeing.vocab["eos"] = 1;
  EXPECT_THAT(refusal(disagreeing), AllOf(HasSubstr("<eos>"), HasSubstr("eos in model.vocab")));
  TinyVocab media = letters();
  media.add_control(media.next, "<|image|>");
  EXPECT_THAT(refusal(media), AllOf(HasSubstr("<|image|>"), HasSubstr("258880")));
  TinyVocab id_twice = letters();
  id_twice.add_control(2, "<bos>");
  EXPECT_THAT(refusal(id_twice), HasSubstr("id 2 appears twice"));
  TinyVocab text_twice = letters();
  text_twice.add_control(text_twice.next, "<bos>");
  EXPECT_NE(refusal(text_twice), "");
}

TEST(Vocabulary, TakesControlTokensThatOnlyAddedTokensLists) {
  TinyVocab vocab = letters();
  vocab.vocab.erase("<bos>");
  vocab.add_control(vocab.next, "<extra>");
  const Tokenizer tokenizer = vocab.load();
  EXPECT_EQ(tokenizer.control_id("<bos>"), TokenId{2});
  EXPECT_EQ(tokenizer.control_id("<extra>"), TokenId{462});
  EXPECT_EQ(tokenizer.control_id("<extr"), std::nullopt);
  EXPECT_EQ(tokenizer.control_id("a"), std::nullopt);
  EXPECT_TRUE(tokenizer.is_control(TokenId{462}));
  EXPECT_EQ(tokenizer.control_text(TokenId{462}), "<extra>");
  EXPECT_EQ(tokenizer.control_text(TokenId{456}), "");
}

TEST(Vocabulary, ReadsEscapesAndAnyOrderOfMembers) {
  const std::string good = letters().text();
  const std::string escaped = replaced(replaced(good, "\"a\":456", "\"\\u0061\":456"),
                                       "[\"a\",\"b\"]", "[\"\\u0061\",\"\\u0062\"]");
  EXPECT_THAT(test::indices(Tokenizer::parse(escaped).encode("ab")), ElementsAre(461));
  // Merges before the vocabulary they name.
  object reordered = letters().json();
  object model;
  model["merges"] = reordered["model"].at("merges");
  for (const auto& member : reordered["model"].as_object()) model[member.key()] = member.value();
  reordered["model"] = model;
  EXPECT_THAT(test::indices(Tokenizer::parse(boost::json::serialize(reordered)).encode("ab")),
              ElementsAre(461));
}

TEST(Vocabulary, RefusesMoreEntriesThanRows) {
  const Tokenizer tokenizer = letters().load();
  EXPECT_NO_THROW(tokenizer.check_fits(tokenizer.size()));
  EXPECT_THROW(tokenizer.check_fits(tokenizer.size() - 1), Error);
}

TEST(Vocabulary, FilesAreNamedInErrors) {
  const test::TempDir folder;
  folder.write("tokenizer.json", "{}");
  try {
    Tokenizer::load(folder.path("tokenizer.json"));
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), AllOf(HasSubstr("tokenizer.json: "), HasSubstr("is missing")));
  }
  folder.write("tokenizer.json", "");
  EXPECT_THROW(Tokenizer::load(folder.path("tokenizer.json")), Error);
  EXPECT_THROW(Tokenizer::load(folder.path("none.json")), Error);
  folder.write("tokenizer.json", letters().text());
  EXPECT_EQ(Tokenizer::load(folder.path("tokenizer.json")).size(), 462);
}

}  // namespace
}  // namespace facet
