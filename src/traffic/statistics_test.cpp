#include "traffic/statistics.h"

#include <gtest/gtest.h>
#include <numeric>

namespace facet {
namespace {

constexpr double kRounding = 1e-12;

/// Tokens at the moments given, one each.
RequestRecord request_with(double start, std::vector<double> moments, double end) {
  RequestRecord request;
  request.start_s = start;
  for (const double at : moments) request.arrivals.push_back({at, 1});
  request.output_tokens = static_cast<int32_t>(moments.size());
  request.input_tokens = 10;
  request.end(end, Outcome::kDone);
  return request;
}

TEST(Statistics, PercentilesAreNumpys) {
  std::vector<double> values(101);
  std::iota(values.rbegin(), values.rend(), 0.0);
  const Spread spread = spread_of(values);
  EXPECT_EQ(spread.count, 101);
  EXPECT_NEAR(spread.mean, 50, kRounding);
  EXPECT_NEAR(spread.median, 50, kRounding);
  EXPECT_NEAR(spread.p90, 90, kRounding);
  EXPECT_NEAR(spread.p95, 95, kRounding);
  EXPECT_NEAR(spread.p99, 99, kRounding);
  EXPECT_EQ(spread.max, 100);
  // numpy.percentile([1, 2, 4, 8], [50, 90, 99]) = 3, 6.8, 7.88
  const Spread few = spread_of({8, 1, 4, 2});
  EXPECT_NEAR(few.median, 3, kRounding);
  EXPECT_NEAR(few.p90, 6.8, kRounding);
  EXPECT_NEAR(few.p99, 7.88, kRounding);
  EXPECT_EQ(spread_of({}).count, 0);
  EXPECT_EQ(spread_of({7}).p99, 7);
}

TEST(Statistics, TimesOfKnownRequests) {
  RunRecords run;
  run.requests.push_back(request_with(0.0, {0.5, 0.6, 0.9}, 1.0));
  run.requests.push_back(request_with(0.5, {1.5}, 2.0));
  const RunStatistics all = statistics_of(run);
  EXPECT_EQ(all.done, 2);
  EXPECT_EQ(all.duration_s, 2.0);
  EXPECT_EQ(all.output_tokens, 4);
  EXPECT_EQ(all.input_tokens, 20);
  EXPECT_NEAR(all.per_second(all.output_tokens), 2.0, kRounding);
  EXPECT_EQ(all.ttft_s.count, 2);
  EXPECT_NEAR(all.ttft_s.mean, 0.75, kRounding);
  EXPECT_EQ(all.tpot_s.count, 1);  // a single token has none
  EXPECT_NEAR(all.tpot_s.mean, 0.2, kRounding);
  EXPECT_EQ(all.itl_s.count, 2);
  EXPECT_NEAR(all.itl_s.max, 0.3, kRounding);
  EXPECT_NEAR(all.e2e_s.mean, 1.25, kRounding);
  EXPECT_EQ(all.peak_concurrency, 2);
  EXPECT_NEAR(all.mean_concurrency, 1.25, kRounding);
  EXPECT_EQ(all.peak_output_tokens_per_second, 3);
}

TEST(Statistics, TokensThatCameTogetherShareTheGap) {
  RunRecords run;
  RequestRecord request;
  request.arrivals = {{1.0, 2}, {2.0, 4}};
  request.output_tokens = 6;
  request.end(2.0, Outcome::kDone);
  run.requests.push_back(request);
  const RunStatistics all = statistics_of(run);
  EXPECT_EQ(all.itl_s.count, 4);
  EXPECT_NEAR(all.itl_s.mean, 0.25, kRounding);
  EXPECT_NEAR(all.tpot_s.mean, 0.2, kRounding);
}

TEST(Statistics, WhatEndsAsAnotherBeginsIsNotBesideIt) {
  RunRecords run;
  run.requests.push_back(request_with(0, {1}, 1));
  run.requests.push_back(request_with(1, {2}, 2));
  EXPECT_EQ(statistics_of(run).peak_concurrency, 1);
}

TEST(Statistics, OnlyWhatIsDoneCounts) {
  RunRecords run;
  run.requests.push_back(request_with(0, {1, 2}, 2));
  for (int i = 0; i < 3; ++i) {
    RequestRecord failed = request_with(0, {0.1}, 0);
    failed.fail(0.2, i < 2 ? "status 503" : "broke off", "detail " + std::to_string(i));
    run.requests.push_back(failed);
  }
  RequestRecord cut = request_with(1, {1.5}, 0);
  cut.end(3, Outcome::kCut);
  run.requests.push_back(cut);
  run.requests.emplace_back();  // never begun
  const RunStatistics all = statistics_of(run);
  EXPECT_EQ(all.requests, 6);
  EXPECT_EQ(all.done, 1);
  EXPECT_EQ(all.failed, 3);
  EXPECT_EQ(all.cut, 1);
  EXPECT_EQ(all.output_tokens, 2);
  EXPECT_EQ(all.ttft_s.count, 1);
  EXPECT_EQ(all.duration_s, 3);
  ASSERT_EQ(all.failures.size(), 2u);
  EXPECT_EQ(all.failures[0].failure, "status 503");
  EXPECT_EQ(all.failures[0].count, 2);
  EXPECT_EQ(all.failures[0].detail, "detail 0");
  EXPECT_EQ(all.failures[1].count, 1);
}

TEST(Statistics, NothingDoneIsNoNumber) {
  const RunStatistics all = statistics_of({});
  EXPECT_EQ(all.per_second(all.output_tokens), 0);
  EXPECT_EQ(all.ttft_s.count, 0);
}

}  // namespace
}  // namespace facet
