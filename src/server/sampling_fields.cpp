#include "server/sampling_fields.h"

#include <algorithm>
#include <charconv>
#include <fmt/core.h>
#include <fmt/ranges.h>
#include <random>

#include "base/log.h"
#include "base/text.h"

namespace facet {
namespace {

constexpr int32_t kMostChoices = 128;
constexpr size_t kMostStops = 16;
constexpr size_t kMostStopBytes = 1024;
constexpr size_t kMostStopIds = 64;
constexpr size_t kMostBiases = 1024;

void set_float(const std::optional<double>& given, float& field) {
  if (given) field = static_cast<float>(*given);
}

void read_logit_bias(Fields& fields, const ServedModel& model, SamplingParams& sampling) {
  std::optional<Fields> bias = fields.object("logit_bias");
  if (!bias) return;
  const Value::Object& members = bias->value().object();
  if (members.size() > kMostBiases) {
    fields.fail(ApiCode::kInvalidValue, "logit_bias",
                fmt::format("found {} entries, wanted at most {}", members.size(), kMostBiases));
  }
  for (const Member& member : members) {
    int32_t id = -1;
    const std::string& name = member.name;
    const auto [end, fault] = std::from_chars(name.data(), name.data() + name.size(), id);
    if (fault != std::errc() || end != name.data() + name.size() || id < 0 ||
        id >= model.vocab_size) {
      fields.fail(ApiCode::kInvalidValue, "logit_bias",
                  fmt::format("found the key \"{}\", wanted a token id from 0 to {}",
                              printable(name, 40), model.vocab_size - 1));
    }
    const auto value = bias->number(name, -100, 100);
    if (value) sampling.logit_bias.emplace_back(id, static_cast<float>(*value));
  }
}

void read_stream(Fields& fields, GenerationFields& out) {
  out.stream = fields.flag("stream");
  std::optional<Fields> options = fields.object("stream_options");
  if (!options) return;
  if (!out.stream) {
    if (!options->value().is_empty())
      fields.fail(ApiCode::kInvalidValue, "stream_options", "is for streams only");
    return;
  }
  out.include_usage = options->flag("include_usage");
  out.continuous_usage = options->flag("continuous_usage_stats");
  options->boolean("include_obfuscation");
}

void check_user(Fields& fields) {
  const std::string* user = fields.string("user");
  if (user != nullptr && user->size() > 512) {
    fields.fail(ApiCode::kInvalidValue, "user",
                fmt::format("found {} bytes, wanted at most 512", user->size()));
  }
  const std::optional<Fields> metadata = fields.object("metadata");
  if (metadata && metadata->value().object().size() > 16) {
    fields.fail(
        ApiCode::kInvalidValue, "metadata",
        fmt::format("found {} pairs, wanted at most 16", metadata->value().object().size()));
  }
}

void refuse_missing_features(Fields& fields) {
  fields.refuse({"functions", "function_call", "web_search_options", "lora_path", "adapter",
                 "custom_logit_processor", "use_beam_search", "suffix", "chat_template",
                 "chat_parser", "prompt_embeds", "image_embeds", "session_params", "documents",
                 "lora"});
  fields.refuse({"structured_outputs", "guided_json", "guided_regex", "guided_choice",
                 "guided_grammar", "regex", "ebnf", "json_schema", "grammar"});
  std::optional<Fields> format = fields.object("response_format");
  if (format && !format->value().is_empty()) {
    const std::string* type = format->string("type");
    if (type == nullptr) format->fail(ApiCode::kMissingField, "type", "is missing");
    if (*type == "json_object" || *type == "json_schema") {
      format->refuse_feature("type");
    } else if (*type != "text") {
      format->fail(ApiCode::kInvalidValue, "type",
                   fmt::format("found \"{}\", wanted text", printable(*type, 40)));
    }
  }
  const Value::Array* modalities = fields.array("modalities");
  if (modalities != nullptr && !modalities->empty() &&
      !(modalities->size() == 1 && modalities->front().is_string() &&
        modalities->front().string() == "text"))
    fields.refuse_feature("modalities");
  fields.refuse({"audio"});
  std::optional<Fields> processor = fields.object("mm_processor_kwargs");
  if (processor) {
    const auto budget = processor->integer("max_soft_tokens", 0, INT32_MAX);
    if (budget.value_or(0) != 0 && *budget != 280) processor->refuse_feature("max_soft_tokens");
  }
}

uint64_t draw_seed() {
  std::random_device random;
  return (uint64_t{random()} << 32) | random();
}

}  // namespace

std::string read_model(Fields& fields, const ServerSettings& settings) {
  const std::string* model = fields.string("model");
  if (model == nullptr || model->empty() || *model == "default") return settings.names.front();
  const auto& names = settings.names;
  const bool known = std::find(names.begin(), names.end(), *model) != names.end();
  if (!known && !(settings.any_model_name && model->size() <= 256)) {
    throw ApiError(ApiCode::kModelNotFound,
                   fmt::format("The model \"{}\" is not served here; \"{}\" is.",
                               printable(*model, 100), names.front()),
                   "model");
  }
  return *model;
}

void read_sampling(Fields& fields, const ServedModel& model, GenerationFields& out) {
  SamplingParams& sampling = out.sampling;
  set_float(fields.number("temperature", 0, 10), sampling.temperature);
  set_float(fields.number_above("top_p", 0, 1), sampling.top_p);
  set_float(fields.number("min_p", 0, 1), sampling.min_p);
  set_float(fields.number("frequency_penalty", -2, 2), sampling.frequency_penalty);
  set_float(fields.number("presence_penalty", -2, 2), sampling.presence_penalty);
  set_float(fields.number_above("repetition_penalty", 0, 2), sampling.repetition_penalty);
  if (const auto top_k = fields.count("top_k", -1)) {
    const bool off = *top_k <= 0 || *top_k > model.vocab_size;
    sampling.top_k = off ? 0 : *top_k;
  }
  read_logit_bias(fields, model, sampling);
  out.ignore_eos = fields.flag("ignore_eos");
  out.n = static_cast<int32_t>(fields.integer("n", 1, kMostChoices).value_or(1));
}

void read_seed(Fields& fields, std::string_view name, GenerationFields& out) {
  const auto seed = fields.integer(name, INT64_MIN, INT64_MAX);
  if (!seed) out.drawn_seed = draw_seed();
  out.sampling.seed = seed ? static_cast<uint64_t>(*seed) : *out.drawn_seed;
}

void read_stops(Fields& fields, const ServedModel& model, GenerationFields& out) {
  const Value* stop = fields.find("stop");
  const Value::Array one =
      stop != nullptr && stop->is_string() ? Value::Array{*stop} : Value::Array{};
  const Value::Array* list = &one;
  if (stop != nullptr && !stop->is_string()) list = fields.array("stop");
  if (list->size() > kMostStops) {
    fields.fail(ApiCode::kInvalidValue, "stop",
                fmt::format("found {} strings, wanted at most {}", list->size(), kMostStops));
  }
  for (const Value& text : *list) {
    if (!text.is_string()) {
      fields.fail(ApiCode::kInvalidType, "stop",
                  fmt::format("found {}, wanted strings", kind_name(text)));
    }
    if (text.string().empty() || text.string().size() > kMostStopBytes) {
      fields.fail(ApiCode::kInvalidValue, "stop",
                  fmt::format("found a string of {} bytes, wanted 1 to {}", text.string().size(),
                              kMostStopBytes));
    }
    out.stop.push_back(text.string());
  }
  if (const Value::Array* ids = fields.array("stop_token_ids")) {
    if (ids->size() > kMostStopIds) {
      fields.fail(ApiCode::kInvalidValue, "stop_token_ids",
                  fmt::format("found {} ids, wanted at most {}", ids->size(), kMostStopIds));
    }
    out.stop_token_ids = read_ids(*ids, "stop_token_ids", model);
  }
  const bool keep = fields.flag("include_stop_str_in_output");
  out.stop_text = fields.flag("no_stop_trim") || keep ? StopText::kKeep : StopText::kCut;
}

void read_common(Fields& fields,
                 const ServedModel& model,
                 const ServerSettings& settings,
                 GenerationFields& out) {
  out.model = read_model(fields, settings);
  out.sampling = model.sampling;
  read_sampling(fields, model, out);
  read_stops(fields, model, out);
  read_stream(fields, out);
  out.min_tokens = fields.count("min_tokens", 0).value_or(0);
  read_seed(fields, "seed", out);
  const auto best_of = fields.count("best_of", 0);
  if (best_of.value_or(0) != 0 && *best_of != out.n) {
    fields.fail(ApiCode::kUnsupportedParameter, "best_of",
                fmt::format("found {}, wanted {}, the value of n", *best_of, out.n));
  }
  if (const auto top = fields.integer("prompt_logprobs", 0, 5)) {
    if (out.stream) fields.fail(ApiCode::kInvalidValue, "prompt_logprobs", "is not for streams");
    out.prompt_logprobs = static_cast<int32_t>(*top);
  }
  out.return_token_ids = fields.flag("return_token_ids");
  out.tokens_as_ids = fields.flag("return_tokens_as_token_ids");
  out.skip_special_tokens = fields.boolean("skip_special_tokens").value_or(true);
  for (const char* name : {"cache_salt", "extra_key"}) {
    if (const std::string* salt = fields.name(name)) out.salt = *salt;
  }
  for (const char* name : {"request_id", "rid"}) {
    if (const std::string* id = fields.name(name)) out.request_id = *id;
  }
  out.priority = static_cast<int32_t>(fields.integer("priority", -1000, 1000).value_or(0));
  check_user(fields);
  refuse_missing_features(fields);
  fields.ignore({"store", "service_tier", "safety_identifier", "prompt_cache_key", "verbosity",
                 "prediction", "stream_interval"});
}

std::vector<int32_t> read_ids(const Value::Array& list,
                              const std::string& path,
                              const ServedModel& model) {
  std::vector<int32_t> ids;
  ids.reserve(list.size());
  for (const Value& value : list) {
    std::optional<int64_t> id;
    if (value.kind() == Value::Kind::kNumber) id = value.number().as_int64();
    // The path of an element that is as it should be is not worth making.
    if (!id || *id < 0 || *id >= model.vocab_size) {
      const std::string at = fmt::format("{}[{}]", path, ids.size());
      id = whole_number(value, at, INT64_MIN, INT64_MAX);
      if (*id < 0 || *id >= model.vocab_size) {
        throw ApiError(ApiCode::kTokenOutOfRange,
                       fmt::format("{}: found {}, wanted 0 to {}", at, *id, model.vocab_size - 1),
                       at);
      }
    }
    ids.push_back(static_cast<int32_t>(*id));
  }
  return ids;
}

void finish_fields(const Fields& fields, const ServerSettings& settings, std::string_view route) {
  const std::vector<std::string_view> unknown = fields.unknown();
  if (unknown.empty()) return;
  if (settings.strict_fields)
    fields.fail(ApiCode::kUnknownParameter, printable(unknown.front(), 60), "is not known");
  std::vector<std::string> names;
  names.reserve(unknown.size());
  for (const std::string_view name : unknown) names.push_back(printable(name, 60));
  log_debug("server", "fields ignored route={} names={}", route, fmt::join(names, ","));
}

}  // namespace facet
