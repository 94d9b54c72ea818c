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
  int32_t max_tokens = 256;        ///< > 0
  std::vector<int32_t> end_ids;    ///< empty: nothing ends it but the length
  std::vector<int32_t> never_ids;  ///< never sampled
  /// Ids at the start of the prompt that the next prompt will begin with too: so many can be taken
  /// from the cache then, however long the answer gets. 0: whatever is still there.
  int32_t lasting_ids = 0;
  /// Asked before each step and before each layer of a long one; false ends it. May be empty.
  std::function<bool()> keep_going;
};

struct GenerationTimes {
  double prompt_s = 0;  ///< until the first token was chosen
  double decode_s = 0;  ///< from then to the end
  int32_t prompt_tokens = 0;
  int32_t cached_tokens = 0;     ///< of the prompt: taken from the cache, not computed
  int32_t generated_tokens = 0;  ///< end token included

  /// Prompt tokens computed per second, and tokens after the first per second; 0 if there were
  /// none.
  double prompt_rate() const;
  double decode_rate() const;
};

struct GenerationResult {
  GenerationEnd cause = GenerationEnd::kLength;
  int32_t end_id = -1;  ///< the end token, if that was the cause
  GenerationTimes times;
};

/// Called with each token; false ends the generation.
using OnToken = std::function<bool(int32_t id)>;

/// One sequence and its answers: each prompt is computed from where it parts from what the cache
/// holds. Holds its keys and values in the cache until it goes. One thread.
class Generation {
 public:
  /// The sequence may grow to `max_positions`, for which the cache must have room.
  Generation(Stepper& stepper, int32_t prefill_chunk, int64_t max_positions);
  ~Generation();
  Generation(const Generation&) = delete;
  Generation& operator=(const Generation&) = delete;

  /// Generates from `prompt`, the whole text so far, chunk by chunk. The longest common beginning
  /// with what is cached is not computed again, as far as the sliding layers still hold it; what
  /// comes out is the same, bit for bit. Throws Error{kBadInput} if the prompt leaves no position
  /// for an answer.
  GenerationResult run(std::span<const int32_t> prompt,
                       const GenerationParams& params,
                       const OnToken& on_token);

  /// Ids whose keys and values the cache holds: the last prompt and answer.
  const std::vector<int32_t>& cached() const { return cached_; }

 private:
  /// Goes back to the largest part of the common beginning that the cache still holds.
  void rewind_to_common(std::span<const int32_t> prompt);
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
