#include "tests/fake/hash_backend.h"

#include <algorithm>
#include <limits>

#include "base/error.h"

namespace facet::test {
namespace {

/// A row that has read a token whose logits are NaN: whatever it is mixed with becomes the same.
constexpr uint64_t kPoison = 0x7FC07FC07FC07FC0;
constexpr uint64_t kStart = 0x9E3779B97F4A7C15;

uint64_t mix(uint64_t a, uint64_t b) {
  if (a == kPoison || b == kPoison) return kPoison;
  uint64_t x = (a ^ (b * 0xD6E8FEB86659FD93)) + 0x9E3779B97F4A7C15;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EB;
  return x ^ (x >> 31);
}

uint64_t token_row(int32_t id) { return mix(1, static_cast<uint64_t>(id)); }
uint64_t positioned(uint64_t row, int32_t position) {
  return mix(row, static_cast<uint64_t>(position) + 1000);
}

/// Uniform in [0, 1).
double fraction(uint64_t a, uint64_t b) { return static_cast<double>(mix(a, b) >> 11) * 0x1p-53; }

void fill_logits(uint64_t row, std::span<float> logits) {
  for (size_t id = 0; id < logits.size(); ++id) {
    // -4 to 4 in steps of 2^-20.
    const auto bits = static_cast<int32_t>(mix(row, id) & 0x7FFFFF);
    logits[id] = static_cast<float>(bits - 0x400000) * 0x1p-20F;
  }
  if (row == kPoison)
    std::fill(logits.begin(), logits.end(), std::numeric_limits<float>::quiet_NaN());
}

}  // namespace

void HashBackend::restart(const FakeLatency& its_latency, const Faults& its_faults) {
  latency = its_latency;
  faults = its_faults;
  steps = 0;
  rows = 0;
  flaked = 0;
  embedded_ = 0;
}

void HashBackend::begin_rows(int32_t step_rows) {
  if (steps == faults.throwing_step) throw Error(ErrorCode::kInternal, "a planted fault");
  if (latency.clock != nullptr) {
    const double drawn = fraction(latency.seed, static_cast<uint64_t>(steps));
    const double factor = 1 + latency.jitter * (2 * drawn - 1);
    latency.clock->advance((latency.step + step_rows * latency.row) * factor);
  }
  ++steps;
  rows += step_rows;
}

uint64_t HashBackend::row_of(int32_t id) {
  ++embedded_;
  if (faults.flaky_rows > 0 &&
      fraction(~faults.seed, static_cast<uint64_t>(embedded_)) < faults.flaky_rows) {
    ++flaked;
    return kPoison;
  }
  return id == faults.nan_id ? kPoison : token_row(id);
}

uint64_t HashBackend::at_position(uint64_t row, int32_t position) {
  return positioned(row, position);
}

uint64_t HashBackend::joined(uint64_t x, uint64_t h) { return mix(x, h); }

void HashBackend::logits_of(uint64_t row, std::span<float> logits) { fill_logits(row, logits); }

void HashBackend::attention(
    TensorView out, TensorView /*q*/, const KvView& kv, int32_t window, const Batch& batch) {
  for (int64_t row = 0; row < batch.rows(); ++row) {
    const auto r = static_cast<size_t>(row);
    const int32_t position = batch.positions[r];
    const auto sequence = static_cast<size_t>(batch.sequence_of_row[r]);
    uint64_t seen = kStart;
    for (int32_t p = window == 0 ? 0 : std::max(0, position - window + 1); p <= position; ++p)
      seen = mix(seen, stored(kv, sequence, p));
    set(out, row, seen);
  }
}

void HashOracle::read(int32_t id) {
  const auto position = static_cast<int32_t>(sliding_keys_.size());
  if (position == 0) full_ = kStart;
  uint64_t x = token_row(id);
  sliding_keys_.push_back(positioned(x, position));
  uint64_t seen = kStart;
  for (int32_t p = std::max(0, position - window_ + 1); p <= position; ++p)
    seen = mix(seen, sliding_keys_[static_cast<size_t>(p)]);
  x = mix(x, seen);
  x = mix(x, x);  // the feed-forward gives back what it got
  full_ = mix(full_, positioned(x, position));
  x = mix(x, full_);
  row_ = mix(x, x);
}

std::vector<float> HashOracle::logits() const {
  std::vector<float> logits(static_cast<size_t>(vocab_size_));
  fill_logits(row_, logits);
  return logits;
}

}  // namespace facet::test
