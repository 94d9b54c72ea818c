#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "traffic/record.h"

namespace facet {

/// How values are spread. Percentiles lie between the two values nearest (NumPy's default). All
/// zero if there is no value.
struct Spread {
  int64_t count = 0;
  double mean = 0;
  double median = 0;
  double p90 = 0;
  double p95 = 0;
  double p99 = 0;
  double max = 0;
};
Spread spread_of(std::vector<double> values);

/// Requests that failed alike.
struct FailureCount {
  std::string failure;
  int64_t count = 0;
  std::string detail;  ///< of the first
};

/// What a run amounts to. Token counts, rates and times are of the requests that are done.
struct RunStatistics {
  int64_t requests = 0;  ///< planned
  int64_t done = 0;
  int64_t failed = 0;
  int64_t cut = 0;  ///< by an interruption, while they ran
  std::vector<FailureCount> failures;
  double duration_s = 0;  ///< from the first start to the last end
  int64_t input_tokens = 0;
  int64_t cached_tokens = 0;
  int64_t output_tokens = 0;
  double peak_output_tokens_per_second = 0;  ///< in the best whole second
  int64_t peak_concurrency = 0;              ///< requests under way, failed ones too
  double mean_concurrency = 0;               ///< time spent in all requests over the duration
  Spread ttft_s;                             ///< start to first token
  Spread tpot_s;                             ///< (last token - first) / (tokens - 1), of a request
  Spread itl_s;  ///< between neighbouring tokens; those that came together share the gap
  Spread e2e_s;  ///< start to end

  double per_second(int64_t count) const {
    return duration_s > 0 ? static_cast<double>(count) / duration_s : 0;
  }
};
RunStatistics statistics_of(const RunRecords& run);

}  // namespace facet
