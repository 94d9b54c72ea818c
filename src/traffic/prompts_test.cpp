#include "traffic/prompts.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "base/ids.h"
#include "tests/support.h"
#include "traffic/prompt_file.h"

namespace facet {
namespace {

using testing::HasSubstr;

class Prompts : public testing::Test {
 protected:
  const Tokenizer tokenizer_ = Tokenizer::load(test::source_dir() + "/models/fable/tokenizer.json");
};

TEST_F(Prompts, IdsAreOrdinaryAndOfTheLengthWanted) {
  PromptMaker maker(tokenizer_, 1, 0);
  for (const int32_t length : {1, 2, 1000}) {
    const std::vector<int32_t> ids = maker.ids(length);
    ASSERT_EQ(std::ssize(ids), length);
    EXPECT_EQ(ids[0], 2);
    for (size_t i = 1; i < ids.size(); ++i) {
      EXPECT_FALSE(tokenizer_.is_control(TokenId{ids[i]}));
      EXPECT_NE(tokenizer_.piece(TokenId{ids[i]}).substr(0, 3), "<0x");
    }
  }
}

TEST_F(Prompts, TextHasTheLengthWantedWhenEncoded) {
  PromptMaker maker(tokenizer_, 1, 0);
  for (const int32_t length : {1, 2, 3, 50, 50, 1000})
    EXPECT_EQ(std::ssize(tokenizer_.encode(maker.text(length))), length);
}

TEST_F(Prompts, SeedsAndPrefixesDecideWhatIsShared) {
  PromptMaker one(tokenizer_, 1, 0);
  PromptMaker same(tokenizer_, 1, 0);
  PromptMaker other(tokenizer_, 2, 0);
  const std::vector<int32_t> first = one.ids(100);
  EXPECT_EQ(same.ids(100), first);
  EXPECT_NE(other.ids(100), first);
  const std::vector<int32_t> second = one.ids(100);
  EXPECT_NE(std::vector(second.begin() + 1, second.begin() + 5),
            std::vector(first.begin() + 1, first.begin() + 5));

  PromptMaker sharing(tokenizer_, 1, 64);
  const std::vector<int32_t> a = sharing.ids(100);
  const std::vector<int32_t> b = sharing.ids(80);
  EXPECT_EQ(std::vector(a.begin(), a.begin() + 64), std::vector(b.begin(), b.begin() + 64));
  EXPECT_NE(std::vector(a.begin() + 64, a.begin() + 80), std::vector(b.begin() + 64, b.end()));
  EXPECT_EQ(sharing.text(3), sharing.text(3));
}

std::string fault_of(std::string_view jsonl) {
  try {
    parse_prompts(jsonl, "p.jsonl", 7);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kBadInput);
    return error.what();
  }
  return "none";
}

TEST(PromptFile, LinesAreTextsOrChats) {
  const auto prompts = parse_prompts(
      "{\"prompt\":\"Once\"}\r\n\n{\"id\":1,\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"}],"
      "\"max_tokens\":3}",
      "p.jsonl", 7);
  ASSERT_EQ(prompts.size(), 2u);
  EXPECT_EQ(prompts[0].text, "Once");
  EXPECT_EQ(prompts[0].max_tokens, 7);
  EXPECT_FALSE(prompts[0].is_chat());
  EXPECT_EQ(prompts[1].messages, R"([{"role":"user","content":"Hi"}])");
  EXPECT_EQ(prompts[1].max_tokens, 3);
}

TEST(PromptFile, FaultsNameTheLine) {
  EXPECT_THAT(fault_of("{\"prompt\":\"a\"}\n{\"prompt\":"),
              HasSubstr("p.jsonl: line 2: is no JSON"));
  EXPECT_THAT(fault_of("\n[1]"), HasSubstr("p.jsonl: line 2: wanted an object"));
  EXPECT_THAT(fault_of("{}"), HasSubstr("line 1: wanted exactly one of"));
  EXPECT_THAT(fault_of("{\"prompt\":\"a\",\"messages\":[]}"), HasSubstr("exactly one of"));
  EXPECT_THAT(fault_of("{\"prompt\":\"\"}"), HasSubstr("prompt: wanted a string"));
  EXPECT_THAT(fault_of("{\"prompt\":5}"), HasSubstr("prompt: wanted a string"));
  EXPECT_THAT(fault_of("{\"messages\":[]}"), HasSubstr("messages: wanted an array"));
  EXPECT_THAT(fault_of("{\"messages\":[5]}"), HasSubstr("messages: wanted an array"));
  EXPECT_THAT(fault_of("{\"prompt\":\"a\",\"max_tokens\":0}"), HasSubstr("max_tokens: found 0"));
  EXPECT_THAT(fault_of("{\"prompt\":\"a\",\"max_tokens\":1.5}"), HasSubstr("max_tokens: found"));
  EXPECT_THAT(fault_of(" \n\n"), HasSubstr("p.jsonl: holds no prompt"));
}

}  // namespace
}  // namespace facet
