#pragma once

#include <memory>
#include <string>
#include <vector>

#include "server/answer.h"
#include "server/chat_choice.h"
#include "server/route.h"
#include "server/served_model.h"

namespace facet {

/// What the writer of a chat's answer must know.
struct ChatAnswerOptions {
  ChatShape shape;
  AnswerStyle style;
  std::vector<int32_t> prompt;
  int32_t choices = 1;
  ReasoningField reasoning_field = ReasoningField::kBoth;
};

/// Answers of /v1/chat/completions, plain and streamed (server-api 5.9 to 5.12). The tokenizer must
/// outlive it.
std::unique_ptr<Answer> make_chat_answer(ChatAnswerOptions options, const Tokenizer& tokenizer);

}  // namespace facet
