// A chat as JSON, as `facet render` reads it; the first byte holds the options. It is refused with
// a short Error or rendered, and a rendered prompt has the control tokens of its structure alone,
// whatever its texts spell.

#include <cstdint>
#include <cstdlib>
#include <fmt/core.h>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "chat/prompt_renderer.h"
#include "tests/fuzz/small_vocabulary.h"
#include "tests/utf8.h"

namespace {

using facet::PromptItem;
using facet::test::is_utf8;

void require(bool holds, std::string_view what) {
  if (holds) return;
  fmt::print(stderr, "{}\n", what);
  std::abort();
}

facet::RenderOptions options_of(uint8_t bits) {
  facet::RenderOptions options;
  options.enable_thinking = (bits & 1) != 0;
  options.preserve_thinking = (bits & 2) != 0;
  options.add_generation_prompt = (bits & 4) == 0;
  options.continue_final_message = (bits & 8) != 0;
  options.template_exact = (bits & 16) != 0;
  options.empty_thought = (bits & 32) == 0;
  if ((bits & 64) != 0) options.generation = facet::TemplateGeneration::kApril2026;
  return options;
}

void check(const std::vector<PromptItem>& items) {
  static const facet::Tokenizer tokenizer =
      facet::Tokenizer::parse(facet::test::small_vocabulary());
  require(!items.empty() && items.front().control, "the prompt does not begin with <bos>");
  int64_t controls = 0;
  bool media = false;
  for (size_t i = 0; i < items.size(); ++i) {
    require(items[i].control.has_value() == items[i].text.empty(), "an item is neither or both");
    require(i == 0 || items[i].control || items[i - 1].control, "two texts in a row");
    require(is_utf8(items[i].text), "text that is not UTF-8");
    if (!items[i].control) continue;
    ++controls;
    media = media || to_index(*items[i].control) >= tokenizer.size();
  }
  if (media) return;  // the vocabulary has none
  for (const facet::TokenId id : to_ids(items, tokenizer)) controls -= tokenizer.is_control(id);
  require(controls == 0, "text became a control token");
}

}  // namespace

// NOLINTNEXTLINE(readability-identifier-naming): libFuzzer's name
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  try {
    const facet::Value chat = facet::parse_value(text);
    const facet::Value* messages = chat.find("messages");
    if (messages == nullptr) return 0;
    const facet::RenderOptions options = options_of(data[0]);
    const std::vector<PromptItem> items = render(*messages, chat.find("tools"), options);
    check(items);
    require(items == render(*messages, chat.find("tools"), options), "two prompts of one chat");
  } catch (const facet::Error& error) {
    require(error.code() == facet::ErrorCode::kBadInput, "an Error of another kind");
    require(!error.message().empty() && error.message().size() < 1000, "the Error's message");
  }
  return 0;
}
