#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/ids.h"
#include "tokenizer/tokenizer.h"

namespace facet {

/// A part of a prompt: one control token, or text. Text never becomes a control token, whatever it
/// spells.
struct PromptItem {
  std::optional<TokenId> control;
  std::string text;  ///< empty for a control token

  bool operator==(const PromptItem&) const = default;
};

/// Collects items and joins neighbouring texts; no item is an empty text.
class PromptWriter {
 public:
  void control(TokenId id) { items_.push_back({id, {}}); }
  void text(std::string_view text);
  /// `<|"|>` text `<|"|>`, the text unchanged.
  void quoted(std::string_view text);

  std::vector<PromptItem> release() { return std::move(items_); }

 private:
  std::vector<PromptItem> items_;
};

/// The prompt with control tokens shown as their text: for people and logs. The way back does not
/// exist.
std::string to_text(std::span<const PromptItem> items);

/// The prompt's ids: control tokens as they are, text encoded without control tokens. Throws
/// Error{kBadInput} naming a media token that the vocabulary lacks.
std::vector<TokenId> to_ids(std::span<const PromptItem> items, const Tokenizer& tokenizer);

}  // namespace facet
