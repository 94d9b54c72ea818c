#include "cli/sampling_options.h"

#include <CLI/CLI.hpp>
#include <charconv>
#include <fmt/core.h>
#include <limits>
#include <random>
#include <utility>

#include "base/error.h"
#include "base/text.h"
#include "checkpoint/json.h"
#include "tokenizer/control_tokens.h"

namespace facet::cli {
namespace {

constexpr const char* kFile = "generation_config.json";

int32_t to_int32(const JsonReader& reader, const char* name, int64_t value) {
  if (value < 0 || value > std::numeric_limits<int32_t>::max()) {
    reader.fail(
        name, fmt::format("found {}, wanted 0 to {}", value, std::numeric_limits<int32_t>::max()));
  }
  return static_cast<int32_t>(value);
}

/// CLI11 takes a number that does not fit for the largest that does.
std::string int64_fault(const std::string& text) {
  int64_t value = 0;
  const auto [end, fault] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (fault == std::errc() && end == text.data() + text.size()) return {};
  return fmt::format("'{}' is no whole number of 64 bits", printable(text, 40));
}

}  // namespace

void add_sampling_options(CLI::App& command, SamplingOptions& options) {
  const char* group = "Sampling (not given: the model's generation_config.json)";
  command
      .add_option("--temperature", options.temperature, "0 to 10; 0: always the likeliest token")
      ->group(group);
  command
      .add_option("--top-k", options.top_k, "Keep this many of the likeliest tokens; 0 or -1: all")
      ->group(group);
  command
      .add_option("--top-p", options.top_p,
                  "Keep the likeliest tokens that reach this probability (above 0, to 1)")
      ->group(group);
  command
      .add_option("--min-p", options.min_p,
                  "Keep tokens of at least this share of the likeliest (0 to 1)")
      ->group(group);
  command
      .add_option("--repetition-penalty", options.repetition_penalty,
                  "Above 1: avoid tokens seen before (above 0, to 2)")
      ->group(group);
  command
      .add_option("--presence-penalty", options.presence_penalty,
                  "Taken off each token already written (-2 to 2)")
      ->group(group);
  command
      .add_option("--frequency-penalty", options.frequency_penalty,
                  "The same, times how often (-2 to 2)")
      ->group(group);
  command
      .add_option("--seed", options.seed,
                  "The same seed gives the same answer; not given: a fresh one")
      ->check(CLI::Validator(int64_fault, "INT64"))
      ->group(group);
}

SamplingParams with_flags(SamplingParams params, const SamplingOptions& options) {
  params.temperature = options.temperature.value_or(params.temperature);
  params.top_k = options.top_k.value_or(params.top_k);
  params.top_p = options.top_p.value_or(params.top_p);
  params.min_p = options.min_p.value_or(params.min_p);
  params.repetition_penalty = options.repetition_penalty.value_or(params.repetition_penalty);
  params.presence_penalty = options.presence_penalty.value_or(params.presence_penalty);
  params.frequency_penalty = options.frequency_penalty.value_or(params.frequency_penalty);
  if (options.seed) params.seed = static_cast<uint64_t>(*options.seed);
  params.validate();
  return params;
}

SamplingParams sampling_params(const SamplingOptions& options, const Checkpoint& checkpoint) {
  SamplingParams params;
  if (const auto& file = checkpoint.generation_config()) {
    const JsonReader reader(*file, kFile);
    const auto read = [&](const char* name, float& field) {
      if (const auto value = reader.number(name)) field = static_cast<float>(*value);
    };
    read("temperature", params.temperature);
    read("top_p", params.top_p);
    read("min_p", params.min_p);
    read("repetition_penalty", params.repetition_penalty);
    // -1 means the same as 0.
    if (const auto top_k = reader.integer("top_k"))
      params.top_k = to_int32(reader, "top_k", *top_k == -1 ? 0 : *top_k);
    if (!reader.boolean("do_sample").value_or(true)) params.temperature = 0.0F;
    try {
      params.validate();
    } catch (const Error& error) {
      throw Error(ErrorCode::kBadCheckpoint, error.message(), kFile);
    }
  }
  std::random_device random;
  params.seed = (uint64_t{random()} << 32) | random();
  return with_flags(params, options);
}

std::vector<int32_t> end_ids(const Checkpoint& checkpoint, std::span<const TokenId> config_ids) {
  std::vector<int32_t> ids;
  if (const auto& file = checkpoint.generation_config()) {
    const JsonReader reader(*file, kFile);
    const auto given = reader.integers("eos_token_id");
    for (const int64_t id : given.value_or(std::vector<int64_t>{}))
      ids.push_back(to_int32(reader, "eos_token_id", id));
  }
  if (ids.empty()) {
    for (const TokenId id : config_ids) ids.push_back(to_index(id));
  }
  return ids;
}

std::vector<int32_t> never_ids(const Checkpoint& checkpoint) {
  std::vector<int32_t> ids;
  for (const ControlToken& token : kControlTokens) {
    if (!token.may_be_sampled()) ids.push_back(to_index(token.id));
  }
  if (const auto& file = checkpoint.generation_config()) {
    const JsonReader reader(*file, kFile);
    const auto given = reader.integers("suppress_tokens");
    for (const int64_t id : given.value_or(std::vector<int64_t>{})) {
      ids.push_back(to_int32(reader, "suppress_tokens", id));
    }
  }
  return ids;
}

}  // namespace facet::cli
