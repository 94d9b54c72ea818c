#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <map>
#include <string_view>

#include "base/histogram.h"
#include "engine/engine_meters.h"
#include "server/answer.h"
#include "server/api_error.h"

namespace facet {

/// What the server counts of its requests (server-api 11.2). A request of a route that generates
/// ends in one way: answered, cancelled, or refused. All on the loop's thread, and before the
/// client has its answer.
class ServerMeters {
 public:
  using Clock = std::chrono::steady_clock;

  /// An answer is complete; `reason` as in its last choice's finish_reason, a constant.
  void answered(std::string_view reason, const Usage& usage, double seconds);
  /// The client went away.
  void cancelled(const Usage& usage);
  /// An error was the answer, or the end of a stream, on any route.
  void refused(ApiCode code);

  /// Once a second: remembers how many tokens there were.
  void tick(Clock::time_point now);
  /// Generated tokens per second, over the last ten seconds.
  double tokens_per_second(Clock::time_point now) const;

  // Raised as tokens come.
  int64_t prompt_tokens = 0;     ///< of prompts that were read
  int64_t generated_tokens = 0;  ///< that clients got, control and end tokens too
  int64_t reasoning_tokens = 0;  ///< of these, in thoughts; known when a request ends
  Histogram first_token_seconds{kFirstTokenBorders};  ///< of a request's first choice to begin
  Histogram token_gap_seconds{kTokenGapBorders};      ///< of each choice

  // Of answered requests.
  Histogram request_seconds{kRequestBorders};
  Histogram request_prompt_tokens{kTokenCountBorders};
  Histogram request_generated_tokens{kTokenCountBorders};

  const std::map<std::string_view, int64_t>& answered_by_reason() const { return answered_; }
  const std::map<std::string_view, int64_t>& refused_by_code() const { return refused_; }
  int64_t cancelled_requests() const { return cancelled_; }

 private:
  struct Sample {
    Clock::time_point at;
    int64_t generated = 0;
  };

  // All reasons are there from the start, so that a rate sees the first of a kind.
  std::map<std::string_view, int64_t> answered_ = {
      {"stop", 0}, {"length", 0}, {"tool_calls", 0}, {"abort", 0}};
  std::map<std::string_view, int64_t> refused_;
  int64_t cancelled_ = 0;
  std::deque<Sample> samples_{{Clock::now(), 0}};
};

}  // namespace facet
