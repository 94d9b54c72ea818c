#include "traffic/report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace facet {
namespace {

using testing::HasSubstr;
using testing::Not;

RunStatistics some_run() {
  RunRecords run;
  RequestRecord done;
  done.arrivals = {{0.5, 1}, {1.5, 1}};
  done.input_tokens = 7;
  done.output_tokens = 2;
  done.end(2, Outcome::kDone);
  run.requests = {done, done, done};
  run.requests[1].fail(1, "status 503", "The queue is\nfull");
  run.requests[2].end(1.5, Outcome::kCut);
  run.requests.emplace_back();
  return statistics_of(run);
}

TEST(Report, HasSglangsRowsAndWhatWentWrong) {
  const std::string text =
      report_text({.target = "/generate at http://h:1", .model = "m", .prompts = "p"}, some_run());
  EXPECT_THAT(text, HasSubstr("============ Serving Benchmark Result ============\n"));
  EXPECT_THAT(text, HasSubstr("Output token throughput (tok/s):         1.00\n"));
  EXPECT_THAT(text, HasSubstr("Traffic request rate:                    inf\n"));
  EXPECT_THAT(text, HasSubstr("Successful requests:                     1\n"));
  EXPECT_THAT(text, HasSubstr("Failed requests:                         1\n"));
  EXPECT_THAT(text,
              HasSubstr("  status 503:                            1 (The queue is\\x0afull)\n"));
  EXPECT_THAT(text, HasSubstr("Not begun:                               1\n"));
  EXPECT_THAT(text, HasSubstr("---------------Time to First Token----------------\n"));
  EXPECT_THAT(text, HasSubstr("-----Time per Output Token (excl. 1st token)------\n"));
  EXPECT_THAT(text, HasSubstr("Median TTFT (ms):                        500.00\n"));
  EXPECT_THAT(text, HasSubstr("P99 TPOT (ms):                           1000.00\n"));
  EXPECT_THAT(text, Not(HasSubstr("prefix cache")));
}

TEST(Report, JsonHasTheNumbers) {
  const boost::json::object out = report_json({.interrupted = true}, some_run());
  EXPECT_EQ(out.at("output_tokens_per_second").as_double(), 1.0);
  EXPECT_EQ(out.at("total_tokens_per_second").as_double(), 4.5);
  EXPECT_EQ(out.at("mean_ttft_ms").as_double(), 500.0);
  EXPECT_EQ(out.at("p99_itl_ms").as_double(), 1000.0);
  EXPECT_EQ(out.at("cut_short").as_int64(), 1);
  EXPECT_TRUE(out.at("request_rate").is_null());
  EXPECT_TRUE(out.at("interrupted").as_bool());
  EXPECT_EQ(out.at("failures").at(0).at("failure"), "status 503");
  EXPECT_EQ(out.at("failures").at(0).at("count").as_int64(), 1);
}

TEST(Report, WhatWasNotMeasuredIsNoNumber) {
  EXPECT_TRUE(report_json({}, {}).at("median_tpot_ms").is_null());
  EXPECT_THAT(report_text({}, {}), HasSubstr("Median TPOT (ms):                        -\n"));
}

}  // namespace
}  // namespace facet
