#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "chat/declared_tools.h"
#include "chat/prompt_items.h"
#include "server/fields.h"
#include "server/served_model.h"

namespace facet {

/// Who may be called (server-api 5.4).
struct ToolChoice {
  enum class Mode { kNone, kAuto, kRequired };
  Mode mode = Mode::kNone;
  std::vector<std::string> allowed;  ///< empty: every declared function
  bool named = false;                ///< one function was named: it is called at once
};

/// What the fields about the prompt of a chat say: messages, tools, reasoning, template switches.
struct ChatPrompt {
  std::vector<PromptItem> items;
  bool thinking = false;
  bool open_thought = false;  ///< the prompt ends in an open channel
  std::optional<int32_t> thinking_budget;
  const Value* tools = nullptr;  ///< in the body; nullptr: none
  ToolChoice tool_choice;
  bool parallel_tool_calls = true;
};

/// Reads and renders them. Throws ApiError that names the field.
ChatPrompt read_chat_prompt(Fields& fields,
                            const ServedModel& model,
                            const ServerSettings& settings);

/// Of a request that may hold no chat: the types of the fields that read_chat_prompt() reads, and
/// nothing within them. Throws ApiError that names the field.
void check_chat_types(Fields& fields);

}  // namespace facet
