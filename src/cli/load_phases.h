#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

namespace facet::cli {

/// What the parts of a start took, one after another.
class LoadPhases {
 public:
  using Clock = std::chrono::steady_clock;

  explicit LoadPhases(Clock::time_point begin = Clock::now()) : last_(begin) {}

  /// Ends the phase that began when the one before ended; `bytes` of what it read, if that counts.
  void end(const char* name, int64_t bytes = 0);
  /// "checkpoint=0.41s backend=0.30s weights=1.20s weights_rate=14.6GB/s": for the log.
  std::string text() const;

 private:
  struct Phase {
    const char* name;
    double seconds;
    int64_t bytes;
  };

  Clock::time_point last_;
  std::vector<Phase> phases_;
};

}  // namespace facet::cli
