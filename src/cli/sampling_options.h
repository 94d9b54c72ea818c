#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "engine/sampling.h"

namespace CLI {  // NOLINT(readability-identifier-naming): the library's own name
class App;
}

namespace facet::cli {

/// Sampling flags as given; what was not given comes from generation_config.json.
struct SamplingOptions {
  std::optional<float> temperature;
  std::optional<int32_t> top_k;
  std::optional<float> top_p;
  std::optional<float> min_p;
  std::optional<float> repetition_penalty;
  std::optional<float> presence_penalty;
  std::optional<float> frequency_penalty;
  std::optional<int64_t> seed;
};

void add_sampling_options(CLI::App& command, SamplingOptions& options);

/// `params` with what the flags give. Throws Error{kUsage} as SamplingParams::validate.
SamplingParams with_flags(SamplingParams params, const SamplingOptions& options);

/// The flags over the checkpoint's generation_config.json (do_sample false means temperature 0)
/// over the neutral defaults; without a seed a fresh one is drawn. Throws Error{kUsage} as
/// SamplingParams::validate.
SamplingParams sampling_params(const SamplingOptions& options, const Checkpoint& checkpoint);

/// End tokens: generation_config.json's eos_token_id, else config.json's.
std::vector<int32_t> end_ids(const Checkpoint& checkpoint, std::span<const TokenId> config_ids);
/// Control tokens that are never sampled (server-api 12) and the checkpoint's suppress_tokens.
std::vector<int32_t> never_ids(const Checkpoint& checkpoint);

}  // namespace facet::cli
