#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <tuple>
#include <vector>

#include "cache/kv_cache.h"
#include "engine/engine.h"
#include "engine/request.h"
#include "engine/sampling.h"

namespace facet {

struct ActiveRequest;

/// Who goes first: smaller ones.
struct Rank {
  int64_t key = 0;  ///< 0 for all, or with priorities a point in time (ns): when it came, shifted
  RequestHandle handle{};
  int32_t choice = 0;

  bool operator<(const Rank& other) const {
    return std::tie(key, handle, choice) < std::tie(other.key, other.handle, other.choice);
  }
};

/// One choice of a request: a timeline of tokens, and how much of it the cache holds.
struct Sequence {
  enum class State { kWaiting, kRunning, kEnded };

  Sequence(ActiveRequest& owner, Rank its_rank) : request(&owner), rank(its_rank) {}

  ActiveRequest* request;
  const Rank rank;
  State state = State::kWaiting;
  std::vector<int32_t> output;
  bool token_in_flight = false;  ///< the step under way brings one more

  // From when it first runs until it ends; they outlive a preemption.
  std::unique_ptr<Sampler> sampler;
  std::unique_ptr<TokenGuide> guide;

  // While it has a slot: kRunning, or ended and not settled yet.
  std::optional<CacheSlot> slot;
  int32_t computed = 0;  ///< positions in the cache, those of the step under way included
  int32_t verified =
      0;               ///< of these, from steps whose logits were finite: fit for the prefix cache
  int32_t branch = 0;  ///< where it parts from what the prefix cache knows; 0: nowhere

  int32_t choice() const { return rank.choice; }
  int32_t prompt_tokens() const;
  /// Tokens so far, one in flight included.
  int32_t known() const;
  /// Nothing was sampled yet, so all choices of a request that are fresh stand at the same place.
  bool fresh() const { return output.empty() && !token_in_flight; }
  /// Appends tokens [begin, end) of prompt and output.
  void append_tokens(int32_t begin, int32_t end, std::vector<int32_t>& out) const;
};

/// A request that was taken and has not ended.
struct ActiveRequest {
  Request request;
  RequestHandle handle{};
  std::vector<std::unique_ptr<Sequence>> choices;
  int32_t open_choices = 0;  ///< not ended
  bool begun = false;        ///< one of them ran
  std::chrono::steady_clock::time_point begun_at;
  std::optional<std::chrono::steady_clock::time_point> first_token_at;  ///< or the prompt was read
  int32_t cached_tokens = 0;                                            ///< when it began
  /// The choice that computes the prompt; the others wait for it.
  Sequence* leader = nullptr;
  /// Entry i is of prompt[i]; complete once a leader's prompt was computed.
  std::vector<std::optional<TokenLogprob>> prompt_logprobs;
  bool prompt_logprobs_done = false;

  bool started = false;   ///< the sink's on_start was called
  bool has_news = false;  ///< events wait for it
  bool aborted = false;   ///< the last choice that ended was aborted
  std::vector<TokenEvent> events;
};

}  // namespace facet
