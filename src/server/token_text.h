#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/logprobs.h"
#include "server/json_writer.h"
#include "tokenizer/tokenizer.h"

namespace facet {

/// Are tokens named by their text or as token_id:N?
enum class TokenNames { kText, kIds };

/// The bytes a token stands for; the text of a control token.
std::string_view token_bytes(const Tokenizer& tokenizer, int32_t id);
/// Their UTF-8 reading with U+FFFD for broken parts, or "token_id:N".
std::string token_name(const Tokenizer& tokenizer, int32_t id, TokenNames names);

/// A token of an answer, or of a prompt, with how likely it was.
struct ListedToken {
  int32_t id = 0;
  TokenLogprob logprob;
};

/// {"content":[{"token","logprob","bytes","top_logprobs"}],"refusal":null} (server-api 5.11); the
/// string delimiter is listed as '"'.
void write_chat_logprobs(JsonWriter& json,
                         const std::vector<ListedToken>& tokens,
                         const Tokenizer& tokenizer,
                         TokenNames names);

/// The member prompt_logprobs: null or {"ID":{"logprob","decoded_token"},…} per token of the
/// prompt.
void write_prompt_logprobs(JsonWriter& json,
                           const std::vector<int32_t>& prompt,
                           const std::vector<std::optional<TokenLogprob>>& logprobs,
                           const Tokenizer& tokenizer);

void write_ids(JsonWriter& json, const std::vector<int32_t>& ids);

}  // namespace facet
