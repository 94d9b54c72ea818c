#include "server/route.h"

#include <algorithm>
#include <fmt/core.h>
#include <random>

namespace facet {

std::string fresh_id(std::string_view prefix) {
  constexpr std::string_view kLetters =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
  std::random_device random;
  std::string id(prefix);
  for (int i = 0; i < 24; ++i)
    id += kLetters[static_cast<size_t>((uint64_t{random()} * kLetters.size()) >> 32)];
  return id;
}

int32_t answer_cap(size_t prompt,
                   std::optional<int32_t> asked,
                   const RouteContext& context,
                   std::string_view param) {
  const auto most = static_cast<int64_t>(context.model.max_model_len);
  const int64_t left = most - static_cast<int64_t>(prompt);
  const bool strict = context.settings.strict_max_tokens && asked && *asked > left;
  if (left < (asked == 0 ? 0 : 1) || strict) {
    std::string message = fmt::format(
        "This model's maximum context length is {} tokens. However, your request has {} input "
        "tokens.",
        most, prompt);
    if (left >= 1)
      message += fmt::format(" They leave room for {}, {} were asked for.", left, *asked);
    throw ApiError(ApiCode::kContextLengthExceeded, std::move(message), std::string(param));
  }
  return static_cast<int32_t>(asked ? std::min<int64_t>(*asked, left) : left);
}

Request make_request(const GenerationFields& fields,
                     const RouteContext& context,
                     std::vector<int32_t> prompt,
                     int32_t cap) {
  if (fields.min_tokens > fields.max_tokens.value_or(INT32_MAX)) {
    throw ApiError(ApiCode::kInvalidValue,
                   fmt::format("min_tokens: found {}, wanted at most {}, the cap",
                               fields.min_tokens, *fields.max_tokens),
                   "min_tokens");
  }
  const ServedModel& model = context.model;
  Request request;
  request.id = context.request_id;
  request.prompt = std::move(prompt);
  request.choices = fields.n;
  request.sampling = fields.sampling;
  request.max_tokens = cap;
  request.min_tokens = std::min(fields.min_tokens, cap);
  request.end_ids = fields.stop_token_ids;
  request.never_ids = model.never_ids;
  auto& ends = fields.ignore_eos ? request.never_ids : request.end_ids;
  ends.insert(ends.end(), model.end_ids.begin(), model.end_ids.end());
  request.prompt_logprobs = fields.prompt_logprobs;
  request.cache_key = context.tenant + ":" + fields.salt;
  request.priority = fields.priority;
  const auto now = std::chrono::steady_clock::now();
  if (context.settings.queue_timeout.count() > 0)
    request.queue_deadline = now + context.settings.queue_timeout;
  if (context.settings.request_timeout.count() > 0)
    request.deadline = now + context.settings.request_timeout;
  return request;
}

std::string answer_head(std::string_view id,
                        std::string_view object,
                        std::string_view model,
                        const RouteContext& context) {
  JsonWriter json;
  json.open_object().member("id", id).member("object", object);
  json.member("created",
              static_cast<int64_t>(std::chrono::duration_cast<std::chrono::seconds>(
                                       std::chrono::system_clock::now().time_since_epoch())
                                       .count()));
  json.member("model", model).member("system_fingerprint", context.model.fingerprint);
  return json.release();
}

AnswerStyle answer_style(const GenerationFields& fields, bool logprobs, std::string head) {
  AnswerStyle style;
  style.head = std::move(head);
  style.logprobs = logprobs;
  style.token_names = fields.tokens_as_ids ? TokenNames::kIds : TokenNames::kText;
  style.stream = fields.stream;
  style.include_usage = fields.include_usage;
  style.continuous_usage = fields.continuous_usage;
  style.return_token_ids = fields.return_token_ids;
  style.return_prompt_logprobs = fields.prompt_logprobs.has_value();
  return style;
}

Ending ending_of(const TokenEvent& event, const std::vector<int32_t>& stop_ids) {
  switch (event.finish.value_or(FinishReason::kEndToken)) {
    case FinishReason::kEndToken: {
      const bool named = std::find(stop_ids.begin(), stop_ids.end(), event.id) != stop_ids.end();
      const std::string id = fmt::format("{}", event.id);
      return {"stop", named ? id : "null", id};
    }
    case FinishReason::kLength:
      return {"length", "null", "null"};
    case FinishReason::kAborted:
    case FinishReason::kError:
    case FinishReason::kTimeout:
      break;
  }
  return {"abort", "null", "null"};
}

Ending stop_string_ending(std::string_view stop) {
  return {"stop", json_text(stop), json_text(stop)};
}

}  // namespace facet
