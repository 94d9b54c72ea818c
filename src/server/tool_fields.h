#pragma once

#include "server/chat_fields.h"
#include "server/fields.h"

namespace facet {

/// Reads `tools`, `tool_choice` and `parallel_tool_calls` into `prompt` (server-api 5.4). Throws
/// ApiError that names the field.
void read_tools(Fields& fields, ChatPrompt& prompt);

}  // namespace facet
