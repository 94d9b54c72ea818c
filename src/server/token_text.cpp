#include "server/token_text.h"

#include <fmt/core.h>

#include "tokenizer/control_tokens.h"
#include "tokenizer/utf8_stream.h"

namespace facet {
namespace {

void write_entry(
    JsonWriter& json, int32_t id, float logprob, const Tokenizer& tokenizer, TokenNames names) {
  const bool delimiter = TokenId{id} == control::kStringDelimiter;
  const std::string_view bytes = delimiter ? "\"" : token_bytes(tokenizer, id);
  const bool by_text = names == TokenNames::kText;
  json.member("token", delimiter && by_text ? "\"" : token_name(tokenizer, id, names));
  json.key("logprob").logprob(logprob);
  json.key("bytes").open_array();
  for (const char byte : bytes) json.integer(static_cast<unsigned char>(byte));
  json.close_array();
}

}  // namespace

std::string_view token_bytes(const Tokenizer& tokenizer, int32_t id) {
  const TokenId token{id};
  return tokenizer.is_control(token) ? tokenizer.control_text(token) : tokenizer.bytes_of(token);
}

std::string token_name(const Tokenizer& tokenizer, int32_t id, TokenNames names) {
  if (names == TokenNames::kIds) return fmt::format("token_id:{}", id);
  std::string text;
  std::string held;
  append_wellformed(text, held, token_bytes(tokenizer, id));
  flush_unfinished(text, held);
  return text;
}

void write_chat_logprobs(JsonWriter& json,
                         const std::vector<ListedToken>& tokens,
                         const Tokenizer& tokenizer,
                         TokenNames names) {
  json.open_object().key("content").open_array();
  for (const ListedToken& token : tokens) {
    json.open_object();
    write_entry(json, token.id, token.logprob.logprob, tokenizer, names);
    json.key("top_logprobs").open_array();
    for (const TopLogprob& top : token.logprob.top) {
      json.open_object();
      write_entry(json, top.id, top.logprob, tokenizer, names);
      json.close_object();
    }
    json.close_array().close_object();
  }
  json.close_array().key("refusal").null().close_object();
}

void write_prompt_logprobs(JsonWriter& json,
                           const std::vector<int32_t>& prompt,
                           const std::vector<std::optional<TokenLogprob>>& logprobs,
                           const Tokenizer& tokenizer) {
  const auto write_one = [&](int32_t id, float logprob) {
    json.key(fmt::format("{}", id)).open_object().key("logprob").logprob(logprob);
    json.member("decoded_token", token_name(tokenizer, id, TokenNames::kText)).close_object();
  };
  json.open_array();
  for (size_t i = 0; i < logprobs.size(); ++i) {
    if (!logprobs[i]) {
      json.null();
      continue;
    }
    json.open_object();
    write_one(prompt[i], logprobs[i]->logprob);
    for (const TopLogprob& top : logprobs[i]->top) {
      if (top.id != prompt[i]) write_one(top.id, top.logprob);
    }
    json.close_object();
  }
  json.close_array();
}

void write_ids(JsonWriter& json, const std::vector<int32_t>& ids) {
  json.open_array();
  for (const int32_t id : ids) json.integer(id);
  json.close_array();
}

}  // namespace facet
