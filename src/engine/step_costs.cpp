#include "engine/step_costs.h"

#include <algorithm>
#include <bit>

namespace facet {
namespace {

constexpr int32_t kUnknownRows = 4;  // beside decodes, before anything was measured
constexpr double kWeight = 0.2;      // of a new sample
/// How much more a row may cost beside decodes than among many: the first guess is careful.
constexpr double kMixedFactor = 4;

size_t bucket(int32_t decodes) {
  return static_cast<size_t>(std::bit_width(static_cast<uint32_t>(decodes)));
}

}  // namespace

void StepCosts::Estimate::add(double sample) {
  if (seconds == 0) {
    seconds = sample;
    return;
  }
  seconds += kWeight * (std::clamp(sample, seconds / 2, seconds * 2) - seconds);
}

double StepCosts::decode_seconds(int32_t decodes) const {
  if (decodes == 0) return 0;
  for (size_t at = bucket(decodes); at > 0; --at) {
    if (decode_[at].seconds > 0) return decode_[at].seconds;
  }
  return 0;
}

void StepCosts::observe(int32_t decodes, int32_t prompt_rows, double seconds) {
  if (prompt_rows == 0) {
    if (decodes > 0) decode_[bucket(decodes)].add(seconds);
    return;
  }
  if (decodes == 0) {
    prompt_row_.add(seconds / prompt_rows);
    return;
  }
  const double decoding = decode_seconds(decodes);
  if (decoding == 0) return;  // cannot be told apart
  // A step that was faster than its decodes alone says that rows are cheap, not that they are free.
  mixed_row_.add(std::max(seconds - decoding, seconds / 10) / prompt_rows);
}

int32_t StepCosts::prompt_rows(int32_t decodes, int32_t most) const {
  const double decoding = decode_seconds(decodes);
  const double row =
      mixed_row_.seconds > 0 ? mixed_row_.seconds : prompt_row_.seconds * kMixedFactor;
  if (decoding == 0 || row == 0) return std::min(kUnknownRows, most);
  return std::max(1, static_cast<int32_t>(std::min(decoding / row, static_cast<double>(most))));
}

}  // namespace facet
