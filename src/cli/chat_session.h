#pragma once

#include <string>
#include <vector>

#include "chat/prompt_renderer.h"
#include "cli/conversation.h"
#include "cli/session.h"
#include "engine/generation.h"
#include "tokenizer/tokenizer.h"

namespace facet::cli {

/// A conversation with a model loaded here.
class ChatSession : public Conversation {
 public:
  /// Both must outlive it.
  ChatSession(Session& session,
              const Tokenizer& tokenizer,
              RenderOptions render,
              SamplingParams sampling,
              int32_t max_tokens);

 private:
  Answer answer_messages(const OnPiece& on_piece, const KeepGoing& keep_going) override;
  RenderOptions render_options() const;
  std::vector<int32_t> ids_of(const std::vector<Message>& messages,
                              const RenderOptions& options) const;
  /// How many ids of `prompt`, which asks for an answer to messages(), begin the next prompt too.
  int32_t lasting_ids(const std::vector<int32_t>& prompt) const;

  Session& session_;
  const Tokenizer& tokenizer_;
  const RenderOptions render_;
  Generation generation_;  // holds what the last prompt and answer left in the cache
};

}  // namespace facet::cli
