// Bodies of requests. The first byte chooses the route, the second the server's settings, the rest
// is the body: it is refused with a well-formed error, or made into requests that the engine takes
// and an answer that can be written.

#include <boost/json/parse.hpp>
#include <cstdint>
#include <cstdlib>
#include <fmt/core.h>
#include <memory>
#include <string>
#include <string_view>

#include "base/text.h"
#include "engine/engine_core.h"
#include "server/api_error.h"
#include "server/fields.h"
#include "server/route.h"
#include "tests/fuzz/small_vocabulary.h"
#include "tokenizer/control_tokens.h"

namespace {

using facet::Answer;
using facet::Prepared;
using facet::Request;
using facet::RouteContext;
using facet::ServedModel;
using facet::ServerSettings;

constexpr int32_t kMaxModelLen = 512;
/// Choices whose answers are written: many would take all of the time.
constexpr size_t kWrittenChoices = 4;

void require(bool holds, std::string_view what, std::string_view text = {}) {
  if (holds) return;
  fmt::print(stderr, "{}: {}\n", what, facet::printable(text, 2000));
  std::abort();
}

class NoSink final : public facet::TokenSink {
 public:
  void on_start(int32_t /*cached_tokens*/,
                std::vector<std::optional<facet::TokenLogprob>> /*prompt_logprobs*/) override {}
  void on_tokens(std::span<const facet::TokenEvent> /*events*/) override {}
};

std::unique_ptr<ServedModel> make_model() {
  auto model =
      std::make_unique<ServedModel>(facet::Tokenizer::parse(facet::test::small_vocabulary()));
  model->end_ids = {to_index(facet::control::kEos), to_index(facet::control::kTurnClose)};
  model->never_ids = {to_index(facet::control::kPad), to_index(facet::control::kBos)};
  model->max_model_len = kMaxModelLen;
  model->vocab_size = model->tokenizer.size();
  model->fingerprint = "fp_fuzz";
  return model;
}

ServerSettings settings_of(uint8_t bits) {
  ServerSettings settings;
  settings.names = {"fuzz", "alias"};
  settings.any_model_name = (bits & 1) != 0;
  settings.strict_fields = (bits & 2) != 0;
  settings.strict_max_tokens = (bits & 4) != 0;
  settings.tool_stream = (bits & 8) != 0 ? facet::ToolStream::kWhole : facet::ToolStream::kPieces;
  settings.tool_schema =
      (bits & 16) != 0 ? facet::ToolSchema::kAlways : facet::ToolSchema::kWhereStrict;
  if ((bits & 32) != 0) settings.reasoning_field = facet::ReasoningField::kReasoning;
  return settings;
}

void require_json(std::string_view text, std::string_view what) {
  boost::json::error_code fault;
  boost::json::parse(text, fault);
  require(!fault, what, text);
}

void require_events(std::string_view events) {
  while (!events.empty()) {
    const size_t end = events.find("\n\n");
    require(end != std::string_view::npos && events.starts_with("data: "), "an event", events);
    const std::string_view json = events.substr(6, end - 6);
    if (json != "[DONE]") require_json(json, "an event's JSON");
    events.remove_prefix(end + 2);
  }
}

/// One token per choice, then the end.
void write_answer(Prepared& prepared) {
  int32_t choice = 0;
  for (size_t prompt = 0; prompt < prepared.requests.size(); ++prompt) {
    const Request& request = prepared.requests[prompt];
    std::vector<std::optional<facet::TokenLogprob>> logprobs;
    if (request.prompt_logprobs) {
      logprobs.resize(request.prompt.size());
      for (size_t i = 1; i < logprobs.size(); ++i)
        logprobs[i] = facet::TokenLogprob{.logprob = -1, .top = {}};
    }
    prepared.answer->start(static_cast<int32_t>(prompt), 0, std::move(logprobs));
    for (int32_t i = 0; i < request.choices; ++i, ++choice) {
      facet::TokenEvent event;
      event.choice = i;
      event.finish = facet::FinishReason::kLength;
      if (request.max_tokens > 0) event.id = request.prompt.back();
      if (request.max_tokens > 0 && request.logprobs)
        event.logprob = facet::TokenLogprob{.logprob = -1, .top = {}};
      prepared.answer->take(choice, event);
      if (prepared.stream) require_events(prepared.answer->release_events());
    }
  }
  if (prepared.stream) {
    require_events(prepared.answer->last_events());
  } else {
    require_json(prepared.answer->body(), "an answer");
  }
}

void check_prepared(Prepared prepared, const RouteContext& context) {
  require(!prepared.requests.empty() && prepared.answer != nullptr, "prepared", "nothing");
  size_t choices = 0;
  for (Request& request : prepared.requests) {
    request.sink = std::make_shared<NoSink>();
    check_request(request, context.model.vocab_size);
    const auto total = static_cast<int64_t>(request.prompt.size()) + request.max_tokens;
    require(total <= kMaxModelLen, "a request that never fits");
    choices += static_cast<size_t>(request.choices);
    if (!request.make_guide) continue;
    const auto guide = request.make_guide(0);
    if (guide != nullptr) guide->next();
  }
  if (choices <= kWrittenChoices) write_answer(prepared);
}

void handle(uint8_t route, std::string_view text, const RouteContext& context) {
  const facet::Value body = facet::parse_body(text);
  switch (route % 6) {
    case 0:
      return check_prepared(prepare_chat(body, context), context);
    case 1:
      return check_prepared(prepare_completions(body, context), context);
    case 2:
      return check_prepared(prepare_generate(body, context), context);
    case 3:
      return require_json(tokenize_body(body, context), "tokenize");
    case 4:
      return require_json(detokenize_body(body, context), "detokenize");
    default:
      return require_json(apply_template_body(body, context), "apply-template");
  }
}

}  // namespace

// NOLINTNEXTLINE(readability-identifier-naming): libFuzzer's name
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  static const std::unique_ptr<ServedModel> model = make_model();
  const ServerSettings settings = settings_of(data[1]);
  const RouteContext context{*model, settings, "req-fuzz", "tenant"};
  const std::string_view text(reinterpret_cast<const char*>(data) + 2, size - 2);
  try {
    handle(data[0], text, context);
  } catch (const facet::ApiError& error) {
    require_json(error_body(error), "an error's body");
    require(error.message().size() < 1000, "a long message", error.message());
  }
  return 0;
}
