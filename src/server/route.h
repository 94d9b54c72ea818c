#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/request.h"
#include "server/answer.h"
#include "server/raw_prompts.h"
#include "server/sampling_fields.h"
#include "server/served_model.h"

namespace facet {

/// What preparing a request may look at. All constant: any thread.
struct RouteContext {
  const ServedModel& model;
  const ServerSettings& settings;
  std::string request_id;
  std::string tenant;  ///< of the caller's key: the prefix cache is not shared among tenants
};

/// "chatcmpl-" and the like with 24 random letters and digits behind.
std::string fresh_id(std::string_view prefix);

/// How many tokens a prompt of `prompt` tokens may be answered with, at most `asked`. Throws
/// ApiError{kContextLengthExceeded} naming `param`.
int32_t answer_cap(size_t prompt,
                   std::optional<int32_t> asked,
                   const RouteContext& context,
                   std::string_view param);

/// The engine's request for one prompt; the sink is left out. Throws ApiError{kInvalidValue} if
/// min_tokens exceeds what was asked for.
Request make_request(const GenerationFields& fields,
                     const RouteContext& context,
                     std::vector<int32_t> prompt,
                     int32_t cap);

/// The head that a request's answer and all events of its stream share: id, object, created, model,
/// system_fingerprint, without the closing brace.
std::string answer_head(std::string_view id,
                        std::string_view object,
                        std::string_view model,
                        const RouteContext& context);

/// How answers to chats and completions are written, as the request asked; `head`: answer_head().
AnswerStyle answer_style(const GenerationFields& fields, bool logprobs, std::string head);

/// How an answer ended by an event, given the text of a stop string that did (or nullptr). Tokens
/// of `stop_ids` are those the request named.
Ending ending_of(const TokenEvent& event, const std::vector<int32_t>& stop_ids);
Ending stop_string_ending(std::string_view stop);

// What the routes make of a body. Throw ApiError.
Prepared prepare_chat(const Value& body, const RouteContext& context);
Prepared prepare_completions(const Value& body, const RouteContext& context);
Prepared prepare_generate(const Value& body, const RouteContext& context);

// Bodies of answers that need no engine.
std::string tokenize_body(const Value& body, const RouteContext& context);
std::string detokenize_body(const Value& body, const RouteContext& context);
std::string apply_template_body(const Value& body, const RouteContext& context);
std::string tokenizer_info_body(const RouteContext& context);
std::string models_body(const RouteContext& context);
/// Throws ApiError{kModelNotFound}.
std::string model_body(std::string_view name, const RouteContext& context);

}  // namespace facet
