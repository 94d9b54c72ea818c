#pragma once

#include <chrono>
#include <cstdint>
#include <span>
#include <vector>

#include "tests/fake/fake_ops.h"

namespace facet::test {

/// A clock that moves only when it is told to.
class FakeClock {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;
  virtual ~FakeClock() = default;
  TimePoint now() const { return now_; }
  virtual void advance(double seconds) {
    now_ += std::chrono::duration_cast<std::chrono::steady_clock::duration>(
        std::chrono::duration<double>(seconds));
  }

 private:
  TimePoint now_{std::chrono::hours(1)};
};

/// How long steps take on a HashBackend: (step + rows * row) seconds, times a seeded factor from 1
/// - jitter to 1 + jitter.
struct FakeLatency {
  FakeClock* clock = nullptr;  ///< may be null: none
  double step = 0;
  double row = 0;
  double jitter = 0;
  uint64_t seed = 0;
};

/// Logits are a hash of the tokens read so far: each row mixes in, through the pages, every key
/// that it sees, of the sliding layer and then of the full one, so that a page, a position or a
/// sequence that is mixed up changes what comes out.
class HashBackend : public FakeOps {
 public:
  /// What goes wrong.
  struct Faults {
    int32_t nan_id = -1;         ///< a token that makes every logit from there on NaN
    int64_t throwing_step = -1;  ///< counted from 0
    /// How often a row, whatever its token, makes every logit from there on NaN: a device that errs
    /// once, and not when the same row is read again.
    double flaky_rows = 0;
    uint64_t seed = 0;  ///< says which
  };

  std::string_view describe() const override { return "hash"; }
  void attention(
      TensorView out, TensorView q, const KvView& kv, int32_t window, const Batch& batch) override;

  /// As if new, so that what comes does not depend on what was.
  void restart(const FakeLatency& its_latency, const Faults& its_faults);

  FakeLatency latency;
  Faults faults;
  int64_t steps = 0;   ///< so far
  int64_t rows = 0;    ///< of all steps so far
  int64_t flaked = 0;  ///< of these, that erred by faults.flaky_rows

 protected:
  uint64_t row_of(int32_t id) override;
  uint64_t at_position(uint64_t row, int32_t position) override;
  uint64_t joined(uint64_t x, uint64_t h) override;
  void logits_of(uint64_t row, std::span<float> logits) override;
  void begin_rows(int32_t step_rows) override;

 private:
  int64_t embedded_ = 0;  // rows so far, those of the step under way included
};

/// What a HashBackend must give: the same function, of the tokens alone.
class HashOracle {
 public:
  HashOracle(int32_t vocab_size, int32_t window) : vocab_size_(vocab_size), window_(window) {}

  /// Reads one more token.
  void read(int32_t id);
  /// The logits after what was read.
  std::vector<float> logits() const;

 private:
  const int32_t vocab_size_;
  const int32_t window_;
  std::vector<uint64_t> sliding_keys_;
  uint64_t full_ = 0;
  uint64_t row_ = 0;
};

}  // namespace facet::test
