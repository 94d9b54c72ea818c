// Scheduler, pages, prefix cache and sampling under long random histories: what comes out is a
// function of each request alone, every request ends once, no page is lost, nobody is overtaken,
// and work goes on however small the pools are.
//
// FACET_SIMULATED_SEEDS=FIRST:END runs the seeds from FIRST to before END instead of 0 to 1e5, so
// a failed seed alone (N:N+1), or more of them in processes side by side:
//
//     FACET_SIMULATED_SEEDS=0:500000 build/cpu/bin/engine_simulation_test
//     FACET_SIMULATED_SEEDS=500000:1000000 build/cpu/bin/engine_simulation_test

#include "tests/property/engine_simulation.h"

#include <charconv>
#include <chrono>
#include <cstdlib>
#include <fmt/core.h>
#include <gtest/gtest.h>
#include <string_view>

#include "base/log.h"

namespace facet {
namespace {

constexpr const char* kSeedsVariable = "FACET_SIMULATED_SEEDS";
constexpr uint64_t kShards = 8;  // so that they can run side by side

struct Seeds {
  uint64_t first = 0;
  uint64_t end = 100'000;
  bool chosen = false;
};

/// nullopt if the variable is there and makes no sense.
std::optional<Seeds> seeds() {
  const char* text = std::getenv(kSeedsVariable);
  if (text == nullptr) return Seeds();
  Seeds seeds = {0, 0, true};
  const char* end = text + std::string_view(text).size();
  const auto first = std::from_chars(text, end, seeds.first);
  if (first.ec != std::errc() || first.ptr == end || *first.ptr != ':') return std::nullopt;
  const auto last = std::from_chars(first.ptr + 1, end, seeds.end);
  if (last.ec != std::errc() || last.ptr != end || seeds.end <= seeds.first) return std::nullopt;
  return seeds;
}

class EngineSimulated : public testing::TestWithParam<uint64_t> {
 protected:
  using Totals = test::EngineSimulation::Totals;

  EngineSimulated() { set_log_level(LogLevel::kOff); }  // of engines that are meant to fail

  void simulate(uint64_t seed) {
    test::EngineSimulation simulation(seed, models_[seed % std::size(models_)]);
    simulation.run();
    const Totals& totals = simulation.totals();
    sum_.turns += totals.turns;
    sum_.requests += totals.requests;
    sum_.preemptions += totals.preemptions;
    sum_.cached_tokens += totals.cached_tokens;
    sum_.aborted += totals.aborted;
    sum_.timeouts += totals.timeouts;
    sum_.generated += totals.generated;
    sum_.not_finite += totals.not_finite;
    sum_.failed += totals.failed;
  }

  /// The histories reach what they are meant to reach.
  void expect_all_reached() const {
    EXPECT_GT(sum_.preemptions, 1000);
    EXPECT_GT(sum_.cached_tokens, 1000);
    EXPECT_GT(sum_.aborted, 100);
    EXPECT_GT(sum_.timeouts, 100);
    EXPECT_GT(sum_.not_finite, 1000);
    EXPECT_GT(sum_.failed, 100);
  }

  test::SimulatedModel models_[4] = {test::SimulatedModel(1), test::SimulatedModel(4),
                                     test::SimulatedModel(7), test::SimulatedModel(16)};
  Totals sum_;
};

TEST_P(EngineSimulated, EveryRequestGetsItsAnswerAndEveryPageComesBack) {
  const std::optional<Seeds> all = seeds();
  ASSERT_TRUE(all) << kSeedsVariable << ": found '" << std::getenv(kSeedsVariable)
                   << "', wanted FIRST:END, as 0:1000000";
  const uint64_t count = all->end - all->first;
  const uint64_t first = all->first + count * GetParam() / kShards;
  const uint64_t end = all->first + count * (GetParam() + 1) / kShards;
  const auto start = std::chrono::steady_clock::now();
  for (uint64_t seed = first; seed < end; ++seed) {
    simulate(seed);
    ASSERT_FALSE(HasFailure()) << "seed " << seed;
  }
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  fmt::print(
      "{} turns, {} requests, {} tokens, {} from the cache, {} preemptions, {} aborted, {} timed "
      "out, {} not finite, {} engines failed; {:.1f} us a turn\n",
      sum_.turns, sum_.requests, sum_.generated, sum_.cached_tokens, sum_.preemptions, sum_.aborted,
      sum_.timeouts, sum_.not_finite, sum_.failed,
      seconds / static_cast<double>(std::max<int64_t>(1, sum_.turns)) * 1e6);
  if (!all->chosen) expect_all_reached();
}

INSTANTIATE_TEST_SUITE_P(Shards, EngineSimulated, testing::Range(uint64_t{0}, kShards));

}  // namespace
}  // namespace facet
