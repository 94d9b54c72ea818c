#pragma once

#include <cstdint>
#include <functional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "chat/output_parser.h"
#include "engine/generation.h"
#include "engine/sampling.h"

namespace facet::cli {

/// What one answer was and took.
struct Answer {
  std::string content;
  std::string reasoning;
  std::string finish_reason;
  GenerationTimes times;
};

/// A conversation: messages, settings, answers. No terminal; who answers is the derived class's.
class Conversation {
 public:
  virtual ~Conversation() = default;
  Conversation(const Conversation&) = delete;
  Conversation& operator=(const Conversation&) = delete;

  /// Called with pieces of the answer as they become certain.
  using OnPiece = std::function<void(OutputEvent::Kind kind, std::string_view text)>;
  /// Asked again and again; false stops the answer where it is.
  using KeepGoing = std::function<bool()>;

  /// Adds the user's message and the answer to the conversation. A failure, and an answer that was
  /// stopped before its first token, leave the conversation as it was.
  Answer ask(const std::string& text, const OnPiece& on_piece, const KeepGoing& keep_going);

  void clear() { messages_.clear(); }
  /// The system message; empty: none.
  void set_system(std::string text) { system_ = std::move(text); }
  void set_thinking(bool on) { thinking_ = on; }
  bool thinking() const { return thinking_; }
  const std::string& system() const { return system_; }
  const SamplingParams& sampling() const { return sampling_; }
  int32_t max_tokens() const { return max_tokens_; }
  /// Sets a sampling parameter, or max_tokens, by its name in a request. Throws Error{kUsage} for
  /// another name, text that is no number, a value out of range.
  void set(std::string_view name, std::string_view value);

  /// The conversation as a JSON object with system and messages, and back. from_json throws
  /// Error{kBadInput}.
  std::string to_json() const;
  void from_json(const std::string& text);

 protected:
  struct Message {
    std::string role;  // "user" or "assistant"
    std::string content;
  };

  Conversation(SamplingParams sampling, int32_t max_tokens);

  /// Answers messages(), the last of which is the user's.
  virtual Answer answer_messages(const OnPiece& on_piece, const KeepGoing& keep_going) = 0;

  const std::vector<Message>& messages() const { return messages_; }
  /// `messages` behind the system message, as a request has them.
  std::string messages_json(const std::vector<Message>& messages) const;
  /// Whether set() was called for `name`.
  bool was_set(const std::string& name) const { return set_.contains(name); }

 private:
  SamplingParams sampling_;
  int32_t max_tokens_;
  bool thinking_ = false;
  std::string system_;
  std::vector<Message> messages_;
  std::set<std::string> set_;
};

}  // namespace facet::cli
