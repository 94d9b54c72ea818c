#pragma once

#include <string>
#include <string_view>

#include "cli/conversation.h"

namespace facet::cli {

enum class Stats { kOff, kRate, kAll };

/// Prints what an answer took to stderr.
void print_stats(const Answer& answer, double load_s, Stats stats);

/// Writes an answer to stdout as it comes, thoughts dimmed on a terminal.
class ThoughtStyle {
 public:
  explicit ThoughtStyle(bool colours) : colours_(colours) {}
  ~ThoughtStyle() { end(); }
  ThoughtStyle(const ThoughtStyle&) = delete;
  ThoughtStyle& operator=(const ThoughtStyle&) = delete;
  void print(OutputEvent::Kind kind, std::string_view text);
  /// Back to plain text.
  void end();

 private:
  const bool colours_;
  bool in_thought_ = false;
};

/// `prompt`, or if it is empty what is piped in; empty: neither, so a chat. Throws
/// Error{kBadInput} if nothing comes through the pipe.
std::string given_prompt(std::string prompt);

/// Answers one prompt, as text on stdout and what it took on stderr.
void answer_once(Conversation& chat, const std::string& prompt, double load_s, Stats stats);

/// The chat at the terminal, until Ctrl-D or /bye (keys and commands: server-api 17).
void terminal_chat(Conversation& chat, double load_s, Stats stats);

}  // namespace facet::cli
