#include "chat/prompt_items.h"

#include <algorithm>
#include <fmt/core.h>
#include <utility>

#include "base/error.h"
#include "tokenizer/control_tokens.h"

namespace facet {
namespace {

std::string_view control_name(TokenId id) {
  const auto token = std::find_if(kControlTokens.begin(), kControlTokens.end(),
                                  [&](const ControlToken& entry) { return entry.id == id; });
  return token == kControlTokens.end() ? std::string_view("<?>") : token->text;
}

}  // namespace

void PromptWriter::text(std::string_view text) {
  if (text.empty()) return;
  if (items_.empty() || items_.back().control) items_.emplace_back();
  items_.back().text += text;
}

void PromptWriter::quoted(std::string_view text) {
  control(control::kStringDelimiter);
  this->text(text);
  control(control::kStringDelimiter);
}

std::string to_text(std::span<const PromptItem> items) {
  std::string out;
  for (const PromptItem& item : items) {
    out += item.control ? control_name(*item.control) : std::string_view(item.text);
  }
  return out;
}

std::vector<TokenId> to_ids(std::span<const PromptItem> items, const Tokenizer& tokenizer) {
  std::vector<TokenId> ids;
  for (const PromptItem& item : items) {
    if (!item.control) {
      tokenizer.encode(item.text, ControlTokens::kIgnore, ids);
      continue;
    }
    if (to_index(*item.control) >= tokenizer.size() || !tokenizer.is_control(*item.control)) {
      throw Error(ErrorCode::kBadInput,
                  fmt::format("the prompt needs the control token {}, which this checkpoint's "
                              "vocabulary does not have",
                              control_name(*item.control)));
    }
    ids.push_back(*item.control);
  }
  return ids;
}

}  // namespace facet
