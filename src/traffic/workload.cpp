#include "traffic/workload.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <fmt/core.h>
#include <random>
#include <string>

#include "base/error.h"
#include "base/text.h"

namespace facet {
namespace {

/// RandomState.randint(least, most + 1, size=count): 32 bits at a time, those above the range are
/// thrown away.
std::vector<int32_t> draw_lengths(std::mt19937& random,
                                  int32_t length,
                                  double ratio,
                                  int32_t count) {
  const int32_t least = least_length(length, ratio);
  const auto range = static_cast<uint32_t>(length - least);
  const uint32_t mask = std::bit_ceil(range + 1) - 1;
  std::vector<int32_t> lengths(static_cast<size_t>(count), least);
  if (range == 0) return lengths;
  for (int32_t& one : lengths) {
    uint32_t drawn = 0;
    do {
      drawn = static_cast<uint32_t>(random()) & mask;
    } while (drawn > range);
    one += static_cast<int32_t>(drawn);
  }
  return lengths;
}

}  // namespace

const std::vector<Preset>& presets() {
  static const std::vector<Preset> known = {
      {"fixed", {}, "10 requests one after another, 1,000 tokens in, 250 out"},
      {"sglang-headline",
       {.range_ratio = 0},
       "10 requests one after another of up to 1,000 tokens in and 250 out, the lengths that "
       "SGLang's random data set draws by default (6,101 in and 1,253 out in all)"},
      {"concurrent",
       {.requests = 500, .input_len = 512, .output_len = 128, .concurrency = 100},
       "500 requests, 100 at a time, 512 tokens in, 128 out"},
  };
  return known;
}

const Workload& preset(std::string_view name) {
  std::string names;
  for (const Preset& one : presets()) {
    if (one.name == name) return one.workload;
    names += (names.empty() ? "" : ", ") + std::string(one.name);
  }
  throw Error(ErrorCode::kUsage,
              fmt::format("--preset '{}': wanted one of {}", printable(name, 40), names));
}

int32_t least_length(int32_t length, double ratio) {
  return std::max(static_cast<int32_t>(length * ratio), 1);
}

std::vector<RequestLengths> request_lengths(const Workload& workload) {
  std::mt19937 random(workload.seed);  // NumPy's generator and seeding
  const auto draw = [&](int32_t length) {
    return draw_lengths(random, length, workload.range_ratio, workload.requests);
  };
  const std::vector<int32_t> inputs = draw(workload.input_len);
  const std::vector<int32_t> outputs = draw(workload.output_len);
  std::vector<RequestLengths> lengths;
  lengths.reserve(inputs.size());
  for (size_t i = 0; i < inputs.size(); ++i) lengths.push_back({inputs[i], outputs[i]});
  return lengths;
}

std::vector<double> arrival_times(const Workload& workload) {
  std::vector<double> times(static_cast<size_t>(workload.requests), 0.0);
  if (std::isinf(workload.request_rate)) return times;
  std::mt19937_64 random(workload.seed);
  double now = 0;
  for (size_t i = 1; i < times.size(); ++i) {
    // The standard's exponential_distribution differs between libraries.
    const double uniform = static_cast<double>(random() >> 11) * 0x1p-53;
    now += -std::log1p(-uniform) / workload.request_rate;
    times[i] = now;
  }
  return times;
}

}  // namespace facet
