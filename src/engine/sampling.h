#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "base/ids.h"
#include "kernels/draw_spec.h"
#include "kernels/top_logits.h"

namespace facet {

/// How the next token is chosen (server-api 5.7). The defaults change nothing and draw from the
/// whole distribution.
struct SamplingParams {
  float temperature = 1.0F;         ///< 0 to 10; below 1e-5 the largest logit is taken
  int32_t top_k = 0;                ///< -1 or 0: all
  float top_p = 1.0F;               ///< (0, 1]
  float min_p = 0.0F;               ///< [0, 1]
  float repetition_penalty = 1.0F;  ///< (0, 2], on tokens of prompt and output
  float presence_penalty = 0.0F;    ///< on tokens of the output
  float frequency_penalty = 0.0F;   ///< on tokens of the output, times their count
  uint64_t seed = 0;
  int32_t choice = 0;  ///< which of several answers to one prompt this is
  std::vector<std::pair<int32_t, float>> logit_bias;  ///< id, -100 (never) to 100

  /// Throws Error{kUsage} naming the first field out of range (NaN included), what was found and
  /// what was wanted.
  void validate() const;
};

/// What may not be sampled this time.
struct TokenMask {
  std::span<const int32_t> banned;    ///< end tokens before min_tokens
  std::span<const uint64_t> allowed;  ///< if not empty: only ids whose bit id % 64 of word id / 64
                                      ///< is set
};

/// Whether every logit is a number and finite. A model's logits always are; else it has failed, and
/// nothing can be sampled.
bool all_finite(std::span<const float> logits);

/// Chooses the tokens of one sequence. What is drawn depends on (seed, choice, position) and the
/// logits alone, never on other sequences or on how the prompt was chunked.
class Sampler {
 public:
  using Candidate = std::pair<float, int32_t>;  ///< logit, later weight; id
  /// Room for as many candidates as there are tokens: 2 MB for a large vocabulary, so all samplers
  /// of a thread share one.
  using Scratch = std::vector<Candidate>;

  /// `never` are ids that may not be sampled at all. `scratch` must outlive it.
  Sampler(SamplingParams params, std::vector<int32_t> never, Scratch& scratch);

  /// Counts a token of the prompt or of the output for the penalties.
  void see_prompt(std::span<const int32_t> ids);
  void see_output(int32_t id);

  /// The token for `position` (the number of tokens before it), from finite logits [V] in float32
  /// after the soft cap, which are overwritten. -1 if nothing may be sampled.
  int32_t sample(std::span<float> logits, int64_t position, const TokenMask& mask);
  /// What sample() would give, from the largest of finite logits alone: every logit that is not
  /// below the smallest of `entries`. nullopt if more has to be known.
  std::optional<int32_t> sample_top(std::span<const TopLogits::Entry> entries,
                                    int64_t position,
                                    const TokenMask& mask);
  /// How a device draws what sample_top() would. top_k is 0 if it cannot.
  DrawSpec draw_spec(int64_t position, const TokenMask& mask) const;

 private:
  /// Whether what the mask and the parameters change may lift a logit that is not among the
  /// largest.
  bool needs_all(const TokenMask& mask) const;
  void adjust(std::span<float> logits, const TokenMask& mask) const;
  void repeat_penalty(std::span<float> logits) const;
  bool is_greedy() const;
  /// Draws from candidates_, the largest of which is `largest`.
  int32_t draw(float largest, int64_t position);
  /// Fills candidates_ with the top_k largest logits in order, so that sums do not depend on how
  /// they were found; or with all.
  void take_candidates(std::span<const float> logits);
  /// How many of candidates_, then in front, are drawn from; sum: of all weights.
  size_t keep(double sum);
  /// Puts the largest of candidates_[begin ..] into [begin, end), in order.
  void sort_from(size_t begin, size_t end);

  bool counts_output() const;

  const SamplingParams params_;
  const std::vector<int32_t> never_;
  // Filled only if a penalty asks for them: a long answer has many tokens.
  std::unordered_map<int32_t, int32_t> output_counts_;
  std::unordered_set<int32_t> seen_;  // tokens of prompt or output
  Scratch& candidates_;
};

/// A uniform number in [0, 1) that depends on its key alone: keyed_uniform_of
/// (kernels/draw_spec.h).
float keyed_uniform(uint64_t seed, int32_t choice, int64_t position);

}  // namespace facet
