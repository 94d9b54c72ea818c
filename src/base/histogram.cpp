#include "base/histogram.h"

#include <algorithm>
#include <numeric>

namespace facet {

Histogram::Histogram(std::span<const double> borders)
    : borders_(borders), counts_(std::make_unique<std::atomic<int64_t>[]>(borders.size() + 1)) {}

void Histogram::observe(double value) {
  const auto at = std::lower_bound(borders_.begin(), borders_.end(), value) - borders_.begin();
  std::atomic<int64_t>& count = counts_[static_cast<size_t>(at)];
  count.store(count.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  sum_.store(sum_.load(std::memory_order_relaxed) + value, std::memory_order_relaxed);
}

Histogram::Snapshot Histogram::snapshot() const {
  Snapshot result;
  result.borders = borders_;
  for (size_t i = 0; i <= borders_.size(); ++i)
    result.counts.push_back(counts_[i].load(std::memory_order_relaxed));
  result.sum = sum_.load(std::memory_order_relaxed);
  return result;
}

int64_t Histogram::Snapshot::count() const {
  return std::accumulate(counts.begin(), counts.end(), int64_t{0});
}

}  // namespace facet
