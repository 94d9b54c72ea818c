// POST /generate (server-api 10.2).

#include <algorithm>
#include <chrono>
#include <fmt/core.h>
#include <set>
#include <utility>

#include "server/route.h"
#include "server/text_choice.h"
#include "server/token_text.h"

namespace facet {
namespace {

using Clock = std::chrono::steady_clock;
constexpr int32_t kDefaultTokens = 128;

struct GenerateOptions {
  TextShape shape;
  std::vector<RawPrompt> prompts;
  int32_t choices_per_prompt = 1;
  bool list = false;  ///< the answer is an array
  bool stream = false;
  bool logprobs = false;
  int64_t logprob_start = -1;  ///< first token of the prompt that is listed; -1: none
  bool names = false;          ///< texts in the triples
  std::string id;
};

class GenerateAnswer final : public Answer {
 public:
  GenerateAnswer(GenerateOptions options, const Tokenizer& tokenizer)
      : options_(std::move(options)), tokenizer_(tokenizer), prompts_(options_.prompts.size()) {
    const size_t count = options_.prompts.size() * static_cast<size_t>(options_.choices_per_prompt);
    choices_.reserve(count);
    for (size_t i = 0; i < count; ++i) choices_.emplace_back(tokenizer, options_.shape);
  }

  void start(int32_t prompt,
             int32_t cached_tokens,
             std::vector<std::optional<TokenLogprob>> prompt_logprobs) override {
    prompts_[static_cast<size_t>(prompt)] = {cached_tokens, std::move(prompt_logprobs)};
  }

  Next take(int32_t index, const TokenEvent& event) override {
    TextChoice& choice = choices_[static_cast<size_t>(index)];
    choice.take(event);
    if (options_.stream) news_.insert(index);
    if (!choice.ended()) return Next::kGoOn;
    finish_reason_ = choice.ending().reason;
    return Next::kEnough;
  }

  std::string release_events() override;
  std::string last_events() override { return std::string(kDoneEvent); }

  std::string body() override {
    if (!options_.list) return written(0);
    JsonWriter json;
    json.open_array();
    for (size_t i = 0; i < choices_.size(); ++i) json.raw(written(static_cast<int32_t>(i)));
    json.close_array();
    return json.release();
  }

  Usage usage() const override {
    Usage usage;
    for (size_t i = 0; i < prompts_.size(); ++i) {
      usage.prompt += static_cast<int32_t>(options_.prompts[i].ids.size());
      usage.cached += prompts_[i].cached;
    }
    for (const TextChoice& choice : choices_) usage.completion += choice.generated();
    return usage;
  }
  std::string_view finish_reason() const override { return finish_reason_; }

 private:
  struct Prompt {
    int32_t cached = 0;
    std::vector<std::optional<TokenLogprob>> logprobs;
  };

  std::string written(int32_t index) const;
  void write_meta(JsonWriter& json, size_t prompt, const TextChoice& choice) const;
  void write_reason(JsonWriter& json, const TextChoice& choice) const;
  void write_logprobs(JsonWriter& json, size_t prompt, const TextChoice& choice) const;
  void write_triple(JsonWriter& json, int32_t id, const std::optional<float>& logprob) const;
  void write_top(JsonWriter& json, const std::optional<TokenLogprob>& logprob) const;

  const GenerateOptions options_;
  const Tokenizer& tokenizer_;
  const Clock::time_point begin_ = Clock::now();
  std::vector<TextChoice> choices_;
  std::vector<Prompt> prompts_;
  std::set<int32_t> news_;  // of a stream: choices that got something since its last events
  std::string_view finish_reason_;
};

/// An event holds the whole choice so far, so one speaks for all tokens that travel together.
std::string GenerateAnswer::release_events() {
  std::string events;
  for (const int32_t index : std::exchange(news_, {})) append_event(events, written(index));
  return events;
}

/// The whole choice so far.
std::string GenerateAnswer::written(int32_t index) const {
  const auto prompt = static_cast<size_t>(index / options_.choices_per_prompt);
  const TextChoice& choice = choices_[static_cast<size_t>(index)];
  JsonWriter json;
  json.open_object().member("text", choice.text()).key("output_ids").open_array();
  for (const TextChoice::Token& token : choice.tokens()) json.integer(token.id);
  json.close_array().key("meta_info");
  write_meta(json, prompt, choice);
  if (options_.list) json.member("index", index);
  json.close_object();
  return json.release();
}

void GenerateAnswer::write_meta(JsonWriter& json, size_t prompt, const TextChoice& choice) const {
  json.open_object().member("id", options_.id).key("finish_reason");
  write_reason(json, choice);
  json.member("prompt_tokens", static_cast<int64_t>(options_.prompts[prompt].ids.size()));
  json.member("completion_tokens", choice.generated());
  json.member("cached_tokens", prompts_[prompt].cached).member("reasoning_tokens", 0);
  json.key("e2e_latency").number(std::chrono::duration<double>(Clock::now() - begin_).count());
  if (options_.logprobs) write_logprobs(json, prompt, choice);
  json.close_object();
}

void GenerateAnswer::write_reason(JsonWriter& json, const TextChoice& choice) const {
  if (!choice.ended()) {
    json.null();
    return;
  }
  const Ending& ending = choice.ending();
  json.open_object().member("type", ending.reason);
  if (ending.reason == "stop") {
    json.key("matched").raw(ending.matched_stop);
  } else if (ending.reason == "length") {
    json.member("length", choice.generated());
  } else {
    json.member("message", "The request was aborted.");
  }
  json.close_object();
}

void GenerateAnswer::write_triple(JsonWriter& json,
                                  int32_t id,
                                  const std::optional<float>& logprob) const {
  json.open_array();
  if (logprob) {
    json.logprob(*logprob);
  } else {
    json.null();
  }
  json.integer(id);
  if (options_.names) {
    json.text(token_name(tokenizer_, id, TokenNames::kText));
  } else {
    json.null();
  }
  json.close_array();
}

void GenerateAnswer::write_top(JsonWriter& json, const std::optional<TokenLogprob>& logprob) const {
  if (!logprob) {
    json.null();
    return;
  }
  json.open_array();
  for (const TopLogprob& top : logprob->top) write_triple(json, top.id, top.logprob);
  json.close_array();
}

void GenerateAnswer::write_logprobs(JsonWriter& json,
                                    size_t prompt,
                                    const TextChoice& choice) const {
  const auto value = [](const std::optional<TokenLogprob>& one) {
    return one ? std::optional<float>(one->logprob) : std::nullopt;
  };
  const auto& inputs = prompts_[prompt].logprobs;
  const std::vector<int32_t>& ids = options_.prompts[prompt].ids;
  const size_t from =
      options_.logprob_start < 0 ? inputs.size() : static_cast<size_t>(options_.logprob_start);
  json.key("input_token_logprobs").open_array();
  for (size_t i = from; i < inputs.size(); ++i) write_triple(json, ids[i], value(inputs[i]));
  json.close_array().key("output_token_logprobs").open_array();
  for (const TextChoice::Token& token : choice.tokens())
    write_triple(json, token.id, value(token.logprob));
  json.close_array().key("input_top_logprobs").open_array();
  for (size_t i = from; i < inputs.size(); ++i) write_top(json, inputs[i]);
  json.close_array().key("output_top_logprobs").open_array();
  for (const TextChoice::Token& token : choice.tokens()) write_top(json, token.logprob);
  json.close_array();
}

/// The object sampling_params, with neutral defaults.
void read_params(Fields& fields,
                 const ServedModel& model,
                 const ServerSettings& settings,
                 GenerationFields& out) {
  static const Value none{Value::Object{}};
  std::optional<Fields> given = fields.object("sampling_params");
  Fields params = given ? *given : Fields(none, "sampling_params");
  read_sampling(params, model, out);
  read_stops(params, model, out);
  out.max_tokens = params.count("max_new_tokens", 0).value_or(kDefaultTokens);
  out.min_tokens = params.count("min_new_tokens", 0).value_or(0);
  out.skip_special_tokens = params.boolean("skip_special_tokens").value_or(true);
  read_seed(params, "sampling_seed", out);
  params.refuse({"json_schema", "regex", "ebnf"});
  finish_fields(params, settings, "/generate sampling_params");
}

/// `text` holds strings and `input_ids` ids, though the reader of prompts takes both in either.
void check_kinds(Fields& fields, std::string_view name) {
  const Value& given = *fields.find(name);
  const auto is_text = [](const Value& part) { return part.is_string(); };
  if (name == "text") {
    if (given.is_array() && !std::ranges::all_of(given.array(), is_text))
      fields.fail(ApiCode::kInvalidType, name, "wanted a string or an array of strings");
  } else if (is_text(given) || (given.is_array() && std::ranges::any_of(given.array(), is_text))) {
    fields.fail(ApiCode::kInvalidType, name, "wanted an array of token ids, or of such arrays");
  }
}

}  // namespace

Prepared prepare_generate(const Value& body, const RouteContext& context) {
  const ServedModel& model = context.model;
  Fields fields(body);
  GenerationFields generation;
  read_params(fields, model, context.settings, generation);
  fields.refuse({"image_data", "video_data", "audio_data", "input_embeds", "lora_path"});
  const bool by_text = fields.find("text") != nullptr;
  if (by_text == (fields.find("input_ids") != nullptr))
    fields.fail(ApiCode::kInvalidValue, "text", "wanted exactly one of text and input_ids");
  const char* name = by_text ? "text" : "input_ids";
  check_kinds(fields, name);

  GenerateOptions options;
  options.stream = fields.flag("stream");
  options.logprobs = fields.flag("return_logprob");
  options.logprob_start = fields.integer("logprob_start_len", -1, INT32_MAX).value_or(-1);
  options.names = fields.flag("return_text_in_logprobs");
  const auto top = fields.integer("top_logprobs_num", 0, 20);
  if (const std::string* id = fields.name("rid")) generation.request_id = *id;
  options.id = generation.request_id.empty() ? fresh_id("gen-") : generation.request_id;
  options.prompts = read_raw_prompts(fields, name, model);
  const Value& given = *fields.find(name);
  const bool several = given.is_array() && given.array().front().kind() != Value::Kind::kNumber;
  options.list = several || generation.n > 1;
  options.choices_per_prompt = generation.n;
  finish_fields(fields, context.settings, "/generate");

  Prepared prepared;
  for (const RawPrompt& prompt : options.prompts) {
    const int32_t cap = answer_cap(prompt.ids.size(), generation.max_tokens, context, name);
    Request request = make_request(generation, context, prompt.ids, cap);
    if (options.logprobs) request.logprobs = static_cast<int32_t>(top.value_or(0));
    if (options.logprobs && options.logprob_start >= 0)
      request.prompt_logprobs = static_cast<int32_t>(top.value_or(0));
    prepared.requests.push_back(std::move(request));
  }
  options.shape.control = generation.skip_special_tokens ? ControlText::kDrop : ControlText::kShow;
  options.shape.stop = std::move(generation.stop);
  options.shape.stop_text = generation.stop_text;
  options.shape.stop_ids = std::move(generation.stop_token_ids);
  prepared.stream = options.stream;
  prepared.drawn_seed = generation.drawn_seed;
  prepared.log_id = generation.request_id;
  prepared.answer = std::make_unique<GenerateAnswer>(std::move(options), model.tokenizer);
  return prepared;
}

}  // namespace facet
