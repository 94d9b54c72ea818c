#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace facet {

/// One line of a file of prompts: text, or a chat.
struct FilePrompt {
  std::string text;      ///< empty for a chat
  std::string messages;  ///< a JSON array; empty for a text
  int32_t max_tokens = 0;

  bool is_chat() const { return !messages.empty(); }
};

/// JSONL: each line {"prompt":TEXT} or {"messages":[…]}, with "max_tokens" if it is not to be
/// `max_tokens`; other members are left alone, empty lines skipped. Throws Error{kBadInput} with
/// `place` and the number of the line, what was found and what was wanted.
std::vector<FilePrompt> parse_prompts(std::string_view jsonl,
                                      const std::string& place,
                                      int32_t max_tokens);
/// The same of a file. Throws Error{kIo} too.
std::vector<FilePrompt> read_prompts(const std::string& path, int32_t max_tokens);

}  // namespace facet
