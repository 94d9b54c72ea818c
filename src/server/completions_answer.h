#pragma once

#include <memory>
#include <string>
#include <vector>

#include "server/answer.h"
#include "server/route.h"
#include "server/text_choice.h"
#include "server/token_text.h"

namespace facet {

/// What the writer of the answer to /v1/completions must know.
struct CompletionsOptions {
  TextShape shape;
  AnswerStyle style;
  std::vector<RawPrompt> prompts;
  int32_t choices_per_prompt = 1;
  int32_t top_logprobs = 0;  ///< listed beside the chosen one
  bool echo = false;
};

/// Plain and streamed (server-api 6). The tokenizer must outlive it.
std::unique_ptr<Answer> make_completions_answer(CompletionsOptions options,
                                                const Tokenizer& tokenizer);

}  // namespace facet
