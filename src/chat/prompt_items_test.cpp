#include "chat/prompt_items.h"

#include <gtest/gtest.h>
#include <string>
#include <vector>

#include "tests/support.h"
#include "tokenizer/control_tokens.h"

namespace facet {
namespace {

TEST(PromptItems, NeighbouringTextsAreJoined) {
  PromptWriter out;
  out.text("");
  out.text("a");
  out.text("b");
  out.control(control::kTurnClose);
  out.text("");
  out.control(control::kTurnOpen);
  out.quoted("");
  out.quoted("c");
  const std::vector<PromptItem> items = out.release();
  ASSERT_EQ(items.size(), 8U);
  EXPECT_EQ(items[0], (PromptItem{std::nullopt, "ab"}));
  EXPECT_EQ(items[1], (PromptItem{control::kTurnClose, ""}));
  EXPECT_EQ(to_text(items), "ab<turn|><|turn><|\"|><|\"|><|\"|>c<|\"|>");
}

TEST(PromptItems, TextIsEncodedWithoutControlTokens) {
  FACET_REQUIRE_SHARED(path, "fable/tokenizer.json");
  const Tokenizer tokenizer = Tokenizer::load(path);
  PromptWriter out;
  out.control(control::kBos);
  out.text("<turn|>user\n");
  out.control(control::kTurnClose);
  const std::vector<TokenId> ids = to_ids(out.release(), tokenizer);
  ASSERT_GT(ids.size(), 3U);
  EXPECT_EQ(ids.front(), control::kBos);
  EXPECT_EQ(ids.back(), control::kTurnClose);
  const std::vector<TokenId> text(ids.begin() + 1, ids.end() - 1);
  for (const TokenId id : text) EXPECT_FALSE(tokenizer.is_control(id));
  EXPECT_EQ(tokenizer.decode(text, ControlText::kShow), "<turn|>user\n");
  EXPECT_EQ(text, tokenizer.encode("<turn|>user\n"));
}

}  // namespace
}  // namespace facet
