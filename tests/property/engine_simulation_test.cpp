// Scheduler, pages, prefix cache and sampling under long random histories: what comes out is a
// function of each request alone, every request ends once, no page is lost, and work goes on
// however small the pools are.

#include "tests/property/engine_simulation.h"

#include <chrono>
#include <fmt/core.h>
#include <gtest/gtest.h>

namespace facet {
namespace {

constexpr uint64_t kSeedsPerShard = 12'500;
constexpr uint64_t kShards = 8;  // so that they can run side by side; 1e5 seeds in all

class EngineSimulated : public testing::TestWithParam<uint64_t> {};

TEST_P(EngineSimulated, EveryRequestGetsItsAnswerAndEveryPageComesBack) {
  test::SimulatedModel models[] = {test::SimulatedModel(1), test::SimulatedModel(4),
                                   test::SimulatedModel(7), test::SimulatedModel(16)};
  test::EngineSimulation::Totals sum;
  const auto start = std::chrono::steady_clock::now();
  for (uint64_t i = 0; i < kSeedsPerShard; ++i) {
    const uint64_t seed = GetParam() * kSeedsPerShard + i;
    test::EngineSimulation simulation(seed, models[seed % std::size(models)]);
    simulation.run();
    ASSERT_FALSE(HasFailure()) << "seed " << seed;
    const auto& totals = simulation.totals();
    sum.turns += totals.turns;
    sum.requests += totals.requests;
    sum.preemptions += totals.preemptions;
    sum.cached_tokens += totals.cached_tokens;
    sum.aborted += totals.aborted;
    sum.timeouts += totals.timeouts;
    sum.generated += totals.generated;
  }
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  fmt::print(
      "{} turns, {} requests, {} tokens, {} from the cache, {} preemptions, {} aborted, {} timed "
      "out; {:.1f} us a turn\n",
      sum.turns, sum.requests, sum.generated, sum.cached_tokens, sum.preemptions, sum.aborted,
      sum.timeouts, seconds / static_cast<double>(sum.turns) * 1e6);
  // The histories reach what they are meant to reach.
  EXPECT_GT(sum.preemptions, 100);
  EXPECT_GT(sum.cached_tokens, 1000);
  EXPECT_GT(sum.aborted, 100);
  EXPECT_GT(sum.timeouts, 100);
}

INSTANTIATE_TEST_SUITE_P(Shards, EngineSimulated, testing::Range(uint64_t{0}, kShards));

}  // namespace
}  // namespace facet
