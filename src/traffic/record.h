#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace facet {

enum class Outcome {
  kNotStarted,
  kRunning,
  kDone,    ///< all that was asked for has come
  kFailed,  ///< RequestRecord::failure says how
  kCut,     ///< the run was interrupted
};

/// Tokens that came at one moment.
struct TokenArrival {
  double at_s = 0;
  int32_t tokens = 0;
};

/// What is noted of one request. Times are seconds since the run began.
struct RequestRecord {
  Outcome outcome = Outcome::kNotStarted;
  double start_s = 0;  ///< when it was sent
  double end_s = 0;    ///< when its answer was complete, or failed
  std::vector<TokenArrival> arrivals;
  int32_t input_tokens = 0;   ///< as the server counts them
  int32_t cached_tokens = 0;  ///< of these, taken from its prefix cache
  int32_t output_tokens = 0;
  std::string failure;  ///< the kind, a few words: what failures are counted by
  std::string detail;   ///< more about it, one line

  void end(double now_s, Outcome how) {
    outcome = how;
    end_s = now_s;
  }
  void fail(double now_s, std::string kind, std::string more) {
    end(now_s, Outcome::kFailed);
    failure = std::move(kind);
    detail = std::move(more);
  }
};

/// All requests of a run, in the order in which they were to begin.
struct RunRecords {
  std::vector<RequestRecord> requests;
  bool interrupted = false;
};

}  // namespace facet
