#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace facet {

/// Counts values between fixed borders. One thread observes, any thread reads meanwhile: plain
/// loads and stores of atomics, so that observing costs a search of the borders and no lock.
class Histogram {
 public:
  /// `borders` rise; they must outlive the histogram.
  explicit Histogram(std::span<const double> borders);

  /// Always by the same thread. A value on a border counts below it.
  void observe(double value);

  struct Snapshot {
    std::span<const double> borders;
    std::vector<int64_t> counts;  ///< [i]: values in (borders[i - 1], borders[i]]; last: above all
    double sum = 0;

    int64_t count() const;
  };
  /// Any thread. What is observed meanwhile may be in `counts` and not in `sum` yet.
  Snapshot snapshot() const;

 private:
  std::span<const double> borders_;
  std::unique_ptr<std::atomic<int64_t>[]> counts_;  // borders + 1
  std::atomic<double> sum_{0};
};

}  // namespace facet
