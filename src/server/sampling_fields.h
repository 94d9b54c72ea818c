#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "chat/stop_strings.h"
#include "engine/sampling.h"
#include "server/fields.h"
#include "server/served_model.h"

namespace facet {

/// What chat completions, completions and /generate have in common of a request (server-api 5.1).
struct GenerationFields {
  std::string model;  ///< as it is echoed
  SamplingParams sampling;
  std::optional<uint64_t> drawn_seed;  ///< set if none was given: that of `sampling`
  std::optional<int32_t> max_tokens;   ///< nothing: what the context leaves
  int32_t min_tokens = 0;
  int32_t n = 1;
  bool ignore_eos = false;
  std::vector<std::string> stop;
  std::vector<int32_t> stop_token_ids;
  StopText stop_text = StopText::kCut;
  bool skip_special_tokens = true;
  bool stream = false;
  bool include_usage = false;     ///< in a stream: a last event with the usage
  bool continuous_usage = false;  ///< in a stream: the usage so far in every event
  std::optional<int32_t> prompt_logprobs;
  bool return_token_ids = false;
  bool tokens_as_ids = false;  ///< return_tokens_as_token_ids
  std::string salt;
  int32_t priority = 0;
  std::string request_id;  ///< as the client names it; empty: not
};

/// `model` must be a served name (server-api 3).
std::string read_model(Fields& fields, const ServerSettings& settings);

/// The sampling fields under the names of the OpenAI API and its extensions, over the defaults that
/// `sampling` already holds; without the seed.
void read_sampling(Fields& fields, const ServedModel& model, GenerationFields& out);

/// The seed, called `name`; a fresh one if none is given.
void read_seed(Fields& fields, std::string_view name, GenerationFields& out);

/// `stop`, `stop_token_ids`, `include_stop_str_in_output`, `no_stop_trim`.
void read_stops(Fields& fields, const ServedModel& model, GenerationFields& out);

/// All of chat completions and completions that does not differ; `max_tokens` is not read.
void read_common(Fields& fields,
                 const ServedModel& model,
                 const ServerSettings& settings,
                 GenerationFields& out);

/// The ids of an array. Throws ApiError{kTokenOutOfRange} naming the element.
std::vector<int32_t> read_ids(const Value::Array& list,
                              const std::string& path,
                              const ServedModel& model);

/// Refuses or logs what nobody read.
void finish_fields(const Fields& fields, const ServerSettings& settings, std::string_view route);

}  // namespace facet
