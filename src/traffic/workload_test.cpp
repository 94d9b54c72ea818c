#include "traffic/workload.h"

#include <cmath>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"

namespace facet {
namespace {

using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;

TEST(Workload, HeadlineLengthsAreThoseOfSglang) {
  std::vector<int32_t> inputs;
  std::vector<int32_t> outputs;
  for (const RequestLengths& lengths : request_lengths(preset("sglang-headline"))) {
    inputs.push_back(lengths.input);
    outputs.push_back(lengths.output);
  }
  EXPECT_THAT(inputs, ElementsAre(38, 236, 909, 73, 768, 906, 716, 646, 848, 961));
  EXPECT_THAT(outputs, ElementsAre(145, 130, 205, 72, 238, 135, 26, 179, 21, 102));
}

TEST(Workload, LengthsStayInTheirRange) {
  EXPECT_THAT(request_lengths(preset("fixed")), Each(RequestLengths{1000, 250}));
  Workload half{.requests = 2000, .input_len = 10, .output_len = 3, .range_ratio = 0.5};
  int32_t least = 100;
  int32_t most = 0;
  for (const RequestLengths& lengths : request_lengths(half)) {
    least = std::min(least, lengths.input);
    most = std::max(most, lengths.input);
    EXPECT_GE(lengths.output, 1);
    EXPECT_LE(lengths.output, 3);
  }
  EXPECT_EQ(least, 5);
  EXPECT_EQ(most, 10);
}

TEST(Workload, UnknownPresetsAreRefusedWithTheNames) {
  try {
    preset("other");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kUsage);
    EXPECT_THAT(error.what(), HasSubstr("'other'"));
    EXPECT_THAT(error.what(), HasSubstr("fixed, sglang-headline, concurrent"));
  }
}

TEST(Workload, ArrivalsArePoissonAndSeeded) {
  Workload workload{.requests = 20000, .request_rate = 4};
  const std::vector<double> times = arrival_times(workload);
  ASSERT_EQ(times.size(), 20000u);
  EXPECT_EQ(times.front(), 0);
  double squares = 0;
  for (size_t i = 1; i < times.size(); ++i) {
    ASSERT_GE(times[i], times[i - 1]);
    squares += (times[i] - times[i - 1]) * (times[i] - times[i - 1]);
  }
  // The mean of an exponential gap is 1/4, that of its square 2/16; 5 standard errors.
  EXPECT_NEAR(times.back() / 19999, 0.25, 5 * 0.25 / std::sqrt(19999.0));
  EXPECT_NEAR(squares / 19999, 2.0 / 16, 5 * std::sqrt(20.0) / 16 / std::sqrt(19999.0));
  EXPECT_EQ(arrival_times(workload), times);
  workload.seed = 2;
  EXPECT_NE(arrival_times(workload), times);
}

TEST(Workload, WithoutARateAllArriveAtOnce) {
  EXPECT_THAT(arrival_times({.requests = 3}), ElementsAre(0, 0, 0));
}

}  // namespace
}  // namespace facet
