#pragma once

#include <optional>
#include <string_view>
#include <vector>

#include "chat/prompt_items.h"
#include "chat/value.h"

namespace facet {

/// Which published chat template of Gemma 4 is reproduced.
enum class TemplateGeneration { kJuly2026, kApril2026 };

struct RenderOptions {
  bool enable_thinking = false;
  bool preserve_thinking = false;  ///< keep thoughts of earlier turns that have calls; July only
  bool add_generation_prompt = true;
  /// The last message, an assistant's without calls, is the start of the answer: neither turn end
  /// nor generation prompt follows.
  bool continue_final_message = false;
  /// As published even where that forgets the model's new turn: after a last assistant message with
  /// calls, results and content.
  bool template_exact = false;
  /// With thinking off the answer starts after an empty thought; false for E2B and E4B.
  bool empty_thought = true;
  TemplateGeneration generation = TemplateGeneration::kJuly2026;
};

/// The prompt of a chat. `messages` is the request's array; `tools` its array of tools, where
/// nullptr, null and [] mean none. Control tokens come from the structure alone, never from text.
/// Throws Error{kBadInput} naming message or tool and field for what cannot be rendered.
std::vector<PromptItem> render(const Value& messages,
                               const Value* tools,
                               const RenderOptions& options);

enum class TemplateOption { kAuto, kJuly2026, kApril2026 };

struct TemplateChoice {
  TemplateGeneration generation;
  bool log_unknown;  ///< the checkpoint's own template is another one: worth a line in the log
};

/// `chat_template` is the text of the checkpoint's chat_template.jinja, if it has one.
TemplateChoice choose_template(TemplateOption option,
                               std::optional<std::string_view> chat_template);

}  // namespace facet
