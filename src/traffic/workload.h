#pragma once

#include <cstdint>
#include <limits>
#include <string_view>
#include <vector>

namespace facet {

/// Tokens of one request.
struct RequestLengths {
  int32_t input = 0;
  int32_t output = 0;
  bool operator==(const RequestLengths&) const = default;
};

/// What a run sends, and how fast.
struct Workload {
  int32_t requests = 10;
  int32_t input_len = 1000;  ///< tokens; the most if range_ratio < 1
  int32_t output_len = 250;
  double range_ratio = 1;     ///< lengths are drawn from [ratio * length, length]
  uint32_t seed = 1;          ///< of lengths, prompts and arrivals
  int32_t shared_prefix = 0;  ///< tokens that all prompts begin with
  double request_rate = std::numeric_limits<double>::infinity();  ///< per second; inf: all at once
  int32_t concurrency = 1;  ///< requests under way at the same time; 0: any number
};

/// The names that preset() knows, and what they stand for.
struct Preset {
  std::string_view name;
  Workload workload;
  std::string_view help;
};
const std::vector<Preset>& presets();
/// Throws Error{kUsage} that lists the names.
const Workload& preset(std::string_view name);

/// The least that a length is drawn as: max(int(length * ratio), 1).
int32_t least_length(int32_t length, double ratio);

/// The lengths of all requests, drawn as SGLang's bench_serving draws those of its `random` data
/// set: NumPy's RandomState(seed).randint(least_length, length + 1), first all
/// inputs, then all outputs.
std::vector<RequestLengths> request_lengths(const Workload& workload);

/// When each request begins, in seconds from the first: a Poisson process of request_rate, or all
/// zeros. Ascending.
std::vector<double> arrival_times(const Workload& workload);

}  // namespace facet
