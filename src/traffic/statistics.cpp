#include "traffic/statistics.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <unordered_map>
#include <utility>

namespace facet {
namespace {

/// `sorted` is not empty; 0 <= share <= 1.
double percentile(const std::vector<double>& sorted, double share) {
  const double at = share * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<size_t>(at);
  const size_t above = std::min(below + 1, sorted.size() - 1);
  return std::lerp(sorted[below], sorted[above], at - std::floor(at));
}

bool was_sent(const RequestRecord& request) { return request.outcome != Outcome::kNotStarted; }

int64_t peak_concurrency(const RunRecords& run) {
  std::vector<std::pair<double, int>> changes;  // ends before starts at the same moment
  for (const RequestRecord& request : run.requests) {
    if (!was_sent(request)) continue;
    changes.emplace_back(request.start_s, 1);
    changes.emplace_back(request.end_s, -1);
  }
  std::sort(changes.begin(), changes.end());
  int64_t now = 0;
  int64_t peak = 0;
  for (const auto& [at, change] : changes) peak = std::max(peak, now += change);
  return peak;
}

/// The values of all requests that are done.
struct Times {
  std::vector<double> ttft, tpot, itl, e2e;
  std::unordered_map<int64_t, int64_t> tokens_by_second;

  void add(const RequestRecord& request) {
    e2e.push_back(request.end_s - request.start_s);
    if (request.arrivals.empty()) return;
    const TokenArrival& first = request.arrivals.front();
    ttft.push_back(first.at_s - request.start_s);
    int64_t tokens = 0;
    double before = first.at_s;
    for (const TokenArrival& arrival : request.arrivals) {
      tokens_by_second[static_cast<int64_t>(arrival.at_s)] += arrival.tokens;
      tokens += arrival.tokens;
      if (&arrival == &first) continue;
      const double gap = (arrival.at_s - before) / arrival.tokens;
      itl.insert(itl.end(), static_cast<size_t>(arrival.tokens), gap);
      before = arrival.at_s;
    }
    if (tokens > 1) tpot.push_back((before - first.at_s) / static_cast<double>(tokens - 1));
  }
};

void count_failure(std::vector<FailureCount>& failures, const RequestRecord& request) {
  const auto found = std::find_if(failures.begin(), failures.end(), [&](const FailureCount& one) {
    return one.failure == request.failure;
  });
  if (found != failures.end()) {
    ++found->count;
  } else {
    failures.push_back({request.failure, 1, request.detail});
  }
}

}  // namespace

Spread spread_of(std::vector<double> values) {
  Spread spread;
  if (values.empty()) return spread;
  std::sort(values.begin(), values.end());
  spread.count = std::ssize(values);
  spread.mean =
      std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(spread.count);
  spread.median = percentile(values, 0.5);
  spread.p90 = percentile(values, 0.9);
  spread.p95 = percentile(values, 0.95);
  spread.p99 = percentile(values, 0.99);
  spread.max = values.back();
  return spread;
}

RunStatistics statistics_of(const RunRecords& run) {
  RunStatistics all;
  all.requests = std::ssize(run.requests);
  all.peak_concurrency = peak_concurrency(run);
  Times times;
  double busy = 0;
  for (const RequestRecord& request : run.requests) {
    if (!was_sent(request)) continue;
    all.duration_s = std::max(all.duration_s, request.end_s);
    busy += request.end_s - request.start_s;
    if (request.outcome == Outcome::kFailed) {
      ++all.failed;
      count_failure(all.failures, request);
    }
    if (request.outcome == Outcome::kCut) ++all.cut;
    if (request.outcome != Outcome::kDone) continue;
    ++all.done;
    all.input_tokens += request.input_tokens;
    all.cached_tokens += request.cached_tokens;
    all.output_tokens += request.output_tokens;
    times.add(request);
  }
  if (all.duration_s > 0) all.mean_concurrency = busy / all.duration_s;
  for (const auto& [second, tokens] : times.tokens_by_second) {
    all.peak_output_tokens_per_second =
        std::max(all.peak_output_tokens_per_second, static_cast<double>(tokens));
  }
  all.ttft_s = spread_of(std::move(times.ttft));
  all.tpot_s = spread_of(std::move(times.tpot));
  all.itl_s = spread_of(std::move(times.itl));
  all.e2e_s = spread_of(std::move(times.e2e));
  return all;
}

}  // namespace facet
