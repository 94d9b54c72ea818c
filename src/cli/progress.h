#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace facet::cli {

/// A progress line on stderr: redrawn in place on a terminal, one line at the end elsewhere.
class Progress {
 public:
  enum class Unit { kBytes, kTokens, kLayers, kRequests };

  Progress(std::string what, int64_t total, Unit unit);
  /// `done` of the total; draws at most ten times a second.
  void update(int64_t done);
  void finish();

 private:
  std::string line(int64_t done) const;

  const std::string what_;
  const int64_t total_;
  const Unit unit_;
  const bool terminal_;
  const std::chrono::steady_clock::time_point start_;
  std::chrono::steady_clock::time_point drawn_;
  int64_t done_ = 0;
};

}  // namespace facet::cli
