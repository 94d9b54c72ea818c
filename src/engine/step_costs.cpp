#include "engine/step_costs.h"

#include <algorithm>
#include <bit>

namespace facet {
namespace {

/// How much more a row may cost beside decodes than among many: the first guess is careful.
constexpr double kMixedFactor = 4;
constexpr double kUnknownRows = 4;  // rows that take as long as the decodes, if nothing is known
/// Prompt rows get this share of the decodes' time. A step is never to take three times that of the
/// decodes, and what goes on besides it takes time too.
constexpr double kShare = 0.6;
/// Steps with prompt rows between two without.
constexpr int32_t kMixedSteps = 32;

size_t bucket(int32_t decodes) {
  return static_cast<size_t>(std::bit_width(static_cast<uint32_t>(decodes)));
}

/// A running mean in which one outlier, such as a machine that was stopped, counts little.
void learn(double& mean, double sample) {
  constexpr double kWeight = 0.2;
  if (mean == 0) mean = sample;
  mean += kWeight * (std::clamp(sample, mean / 2, mean * 2) - mean);
}

}  // namespace

double StepCosts::decode_seconds(int32_t decodes) const {
  for (size_t at = bucket(decodes); at > 0; --at) {
    if (decode_[at] > 0) return decode_[at];
  }
  return 0;
}

void StepCosts::observe(int32_t decodes, int32_t prompt_rows, double seconds) {
  if (prompt_rows == 0) {
    if (decodes > 0) learn(decode_[bucket(decodes)], seconds);
    mixed_steps_ = 0;
    return;
  }
  if (decodes == 0) {
    learn(prompt_row_, seconds / prompt_rows);
    return;
  }
  ++mixed_steps_;
  const double decoding = decode_seconds(decodes);
  if (decoding == 0) return;  // cannot be told apart
  mixed_row_ = guess_mixed_row(decoding);
  // The difference of two times would be mostly noise. The ratio of what came to what was expected
  // is not, and leads to where a step takes what it should: quickly if it took longer.
  const double expected = decoding + prompt_rows * mixed_row_;
  mixed_row_ *= std::clamp(1 + 0.3 * (seconds / expected - 1), 0.9, 1.2);
}

double StepCosts::guess_mixed_row(double decoding) const {
  if (mixed_row_ > 0) return mixed_row_;
  return prompt_row_ > 0 ? prompt_row_ * kMixedFactor : decoding / kUnknownRows;
}

int32_t StepCosts::prompt_rows(int32_t decodes, int32_t most) const {
  const double decoding = decode_seconds(decodes);
  if (decoding == 0 || mixed_steps_ >= kMixedSteps) return 0;
  const double rows = std::max(kShare * decoding, unnoticed_) / guess_mixed_row(decoding);
  return std::max(1, static_cast<int32_t>(std::min(rows, static_cast<double>(most))));
}

}  // namespace facet
