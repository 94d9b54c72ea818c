#pragma once

#include <boost/json/object.hpp>
#include <string>

#include "traffic/statistics.h"
#include "traffic/workload.h"

namespace facet {

/// What a run was: goes above its numbers.
struct RunFacts {
  std::string target;  ///< "engine", or the route and the server
  std::string model;
  std::string fingerprint;  ///< empty if the server tells none
  std::string prompts;      ///< in words: lengths, or the file
  Workload workload;
  bool interrupted = false;
};

/// The table for people: rows named as SGLang's bench_serving names them, with p90 and p95 beside.
std::string report_text(const RunFacts& facts, const RunStatistics& run);

/// The numbers of a run, flat: request_rate (null: all at once), concurrency (null: any), requests,
/// completed, failed, cut_short, interrupted, failures:[{failure,count,example}], duration_s,
/// {input,cached_input,output}_tokens,
/// {requests,input_tokens,output_tokens,total_tokens}_per_second, peak_output_tokens_per_second,
/// peak_concurrency, mean_concurrency, and for each of ttft, tpot, itl and e2e: mean_…_ms,
/// median_…_ms, p90_…_ms, p95_…_ms, p99_…_ms, max_…_ms. What nothing was measured for is null.
boost::json::object report_json(const RunFacts& facts, const RunStatistics& run);

}  // namespace facet
