#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "engine/sampling.h"
#include "engine/stepper.h"

namespace facet {

/// Why a generation ended.
enum class GenerationEnd {
  kEndToken,  ///< the model wrote one of end_ids; it is not among the ids handed out
  kLength,    ///< max_tokens, or no position left
  kStopped,   ///< on_token or keep_going said so
};

struct GenerationParams {
  SamplingParams sampling;
  int32_t max_tokens = 256;          ///< > 0
  std::vector<int32_t> end_ids;      ///< empty: nothing ends it but the length
  std::vector<int32_t> never_ids;    ///< never sampled
  std::function<bool()> keep_going;  ///< asked before each step; false ends it. May be empty
};

struct GenerationTimes {
  double prompt_s = 0;  ///< until the first token was chosen
  double decode_s = 0;  ///< from then to the end
  int32_t prompt_tokens = 0;
  int32_t generated_tokens = 0;  ///< end token included
};

struct GenerationResult {
  GenerationEnd cause = GenerationEnd::kLength;
  int32_t end_id = -1;  ///< the end token, if that was the cause
  GenerationTimes times;
};

/// Called with each token; false ends the generation.
using OnToken = std::function<bool(int32_t id)>;

/// One sequence that grows: feed ids, generate, feed more. Holds its keys and values in the cache
/// until it goes. One thread.
class Generation {
 public:
  /// The sequence may grow to `max_positions`, for which the cache must have room.
  Generation(Stepper& stepper, int32_t prefill_chunk, int64_t max_positions);
  ~Generation();
  Generation(const Generation&) = delete;
  Generation& operator=(const Generation&) = delete;

  /// Runs `prompt` (chunk by chunk) after what the sequence holds and generates from there. Throws
  /// Error{kBadInput} if prompt and cached tokens leave no position for an answer.
  GenerationResult run(std::span<const int32_t> prompt,
                       const GenerationParams& params,
                       const OnToken& on_token);

  /// Ids whose keys and values the cache holds: prompts and answers so far.
  const std::vector<int32_t>& cached() const { return cached_; }

 private:
  /// false if keep_going said so; then some of `ids` have not been read.
  bool feed(std::span<const int32_t> ids, const GenerationParams& params);

  Stepper& stepper_;
  const int32_t chunk_;
  const int64_t max_positions_;
  CacheSlot slot_;
  std::vector<int32_t> cached_;
  std::vector<float> logits_;
};

}  // namespace facet
