#pragma once

#include <functional>
#include <string>
#include <vector>

#include "chat/output_reader.h"
#include "chat/prompt_renderer.h"
#include "chat/value.h"
#include "cli/sampling_options.h"
#include "cli/session.h"
#include "engine/generation.h"
#include "tokenizer/tokenizer.h"

namespace facet::cli {

/// What one answer was and took.
struct Answer {
  std::string content;
  std::string reasoning;
  std::string finish_reason;
  GenerationTimes times;
};

/// A conversation with a loaded model: messages, settings, answers. No terminal.
class ChatSession {
 public:
  /// Both must outlive it.
  ChatSession(Session& session,
              const Tokenizer& tokenizer,
              RenderOptions render,
              SamplingParams sampling,
              int32_t max_tokens);

  /// Called with pieces of the answer as they become certain.
  using OnPiece = std::function<void(OutputEvent::Kind kind, std::string_view text)>;
  /// Asked before each step; false stops the answer where it is.
  using KeepGoing = std::function<bool()>;

  /// Adds the user's message and the answer to the conversation. A failure, and an answer that was
  /// stopped before its first token, leave the conversation as it was.
  Answer ask(const std::string& text, const OnPiece& on_piece, const KeepGoing& keep_going);

  void clear();
  /// The system message; empty: none.
  void set_system(std::string text) { system_ = std::move(text); }
  void set_thinking(bool on) { render_.enable_thinking = on; }
  bool thinking() const { return render_.enable_thinking; }
  const std::string& system() const { return system_; }
  SamplingParams& sampling() { return sampling_; }
  int32_t& max_tokens() { return max_tokens_; }

  /// The conversation as a JSON object with system and messages, and back. from_json throws
  /// Error{kBadInput}.
  std::string to_json() const;
  void from_json(const std::string& text);

 private:
  struct Message {
    std::string role;  // "user" or "assistant"
    std::string content;
  };

  Answer answer_messages(const OnPiece& on_piece, const KeepGoing& keep_going);
  /// The ids of `messages` after the system message.
  std::vector<int32_t> ids_of(const std::vector<Message>& messages,
                              const RenderOptions& options) const;
  /// How many ids of `prompt`, which asks for an answer to messages_, begin the next prompt too.
  int32_t lasting_ids(const std::vector<int32_t>& prompt) const;

  Session& session_;
  const Tokenizer& tokenizer_;
  RenderOptions render_;
  SamplingParams sampling_;
  int32_t max_tokens_;
  std::string system_;
  std::vector<Message> messages_;
  Generation generation_;  // holds what the last prompt and answer left in the cache
};

}  // namespace facet::cli
