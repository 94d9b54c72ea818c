#include "engine/step_costs.h"

#include <algorithm>
#include <gtest/gtest.h>
#include <random>

namespace facet {
namespace {

/// A machine: a step takes base + decodes * decode + rows * row, give or take some noise.
struct Machine {
  double base = 2e-3;
  double decode = 1e-4;
  double row = 1e-4;
  double noise = 0;
  std::mt19937 random{1};

  double seconds(int32_t decodes, int32_t rows) {
    std::uniform_real_distribution<> factor(1 - noise, 1 + noise);
    return (base + decodes * decode + rows * row) * factor(random);
  }
};

/// Reads a long prompt beside decodes; the longest step and the mean number of rows, after warm-up.
struct Reading {
  double longest = 0;
  double rows = 0;
};

Reading read(StepCosts& costs, Machine& machine, int32_t decodes, int32_t steps, int32_t warm_up) {
  Reading reading;
  for (int32_t step = 0; step < steps; ++step) {
    const int32_t rows = costs.prompt_rows(decodes, 512);
    const double seconds = machine.seconds(decodes, rows);
    costs.observe(decodes, rows, seconds);
    if (step < warm_up) continue;
    reading.longest = std::max(reading.longest, seconds);
    reading.rows += static_cast<double>(rows) / (steps - warm_up);
  }
  return reading;
}

TEST(StepCosts, DecodesAloneComeFirstAndNowAndThen) {
  StepCosts costs;
  EXPECT_EQ(costs.prompt_rows(4, 512), 0) << "how long a decode takes is not known";
  costs.observe(4, 0, 1e-3);
  EXPECT_GT(costs.prompt_rows(4, 512), 0);
  EXPECT_EQ(costs.prompt_rows(4, 2), 2) << "no more than there are";
  int32_t alone = 0;
  Machine machine;
  for (int32_t step = 0; step < 330; ++step) {
    const int32_t rows = costs.prompt_rows(4, 512);
    alone += rows == 0 ? 1 : 0;
    costs.observe(4, rows, machine.seconds(4, rows));
  }
  EXPECT_EQ(alone, 10);
}

TEST(StepCosts, NoStepTakesThreeTimesADecodeFromTheFirstOn) {
  for (const double row : {1e-6, 1e-4, 6e-4, 1.5e-3}) {
    for (const double noise : {0.0, 0.15}) {
      StepCosts costs;
      Machine machine = {.row = row, .noise = noise};
      costs.observe(0, 100, machine.seconds(0, 100));  // the prompts of the decodes
      const Reading reading = read(costs, machine, 4, 600, 0);
      EXPECT_LE(reading.longest, 3 * (machine.base + 4 * machine.decode)) << row << " " << noise;
    }
  }
}

TEST(StepCosts, RowsFillTheTimeThatTheyHave) {
  for (const double row : {2e-5, 1e-4, 4e-4}) {
    StepCosts costs;
    Machine machine = {.row = row, .noise = 0.1};
    const Reading reading = read(costs, machine, 4, 1000, 100);
    const double fitting = (machine.base + 4 * machine.decode) / row;  // in double the time
    EXPECT_GT(reading.rows, 0.45 * fitting);
    EXPECT_LT(reading.rows, 0.8 * fitting);
  }
}

TEST(StepCosts, RowsOfAFastMachineTakeWhatNobodyNotices) {
  for (const double row : {1e-4, 1e-3}) {
    StepCosts costs(0.03);
    Machine machine = {.base = 2e-3, .decode = 1e-5, .row = row, .noise = 0.1};
    const Reading reading = read(costs, machine, 4, 1000, 100);
    EXPECT_GT(reading.rows, 0.75 * 0.03 / row);
    EXPECT_LT(reading.rows, 0.03 / row);
    EXPECT_LT(reading.longest, 0.05);
  }
}

TEST(StepCosts, FollowsAMachineThatSlowsDownAndOneThatStops) {
  StepCosts costs;
  Machine machine = {.noise = 0.1};
  read(costs, machine, 4, 200, 0);
  Machine slow = {.base = 8e-3, .decode = 4e-4, .row = 4e-4, .noise = 0.1};
  const Reading reading = read(costs, slow, 4, 1000, 500);
  EXPECT_GT(reading.rows, 0.45 * (slow.base + 4 * slow.decode) / slow.row);
  const int32_t before = std::max(costs.prompt_rows(4, 512), 1);
  costs.observe(4, before, 60);
  costs.observe(4, 0, 60);
  EXPECT_GE(costs.prompt_rows(4, 512), before / 2);
  EXPECT_LE(costs.prompt_rows(4, 512), before * 2);
}

}  // namespace
}  // namespace facet
