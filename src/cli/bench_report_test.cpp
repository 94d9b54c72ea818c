#include "cli/bench_report.h"

#include <boost/json/parse.hpp>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace facet::cli {
namespace {

using testing::HasSubstr;

BenchRow taken_apart() {
  BenchRow row;
  row.batch = 1;
  row.context = 1024;
  row.median_s = 50e-6;
  row.kernels = KernelProfile{{{"linear", 2, 40'000'000, 0, 20.0}, {"norm", 1, 0, 0, 5.0}}, 1.25};
  return row;
}

TEST(BenchReport, KernelsShowTheirShareTheirSumAndTheGaps) {
  const std::string text = kernels_table({.read_bytes_per_second = 4e12}, taken_apart());
  EXPECT_THAT(text, HasSubstr("decode, batch 1, context 1024: 50.0 us"));
  EXPECT_THAT(text,
              HasSubstr("| linear                         |     2 |     40.00 |      20.0 |   "
                        "10.00 |  50 % |"));
  EXPECT_THAT(text,
              HasSubstr("| sum                            |     3 |     40.00 |      25.0 |"));
  EXPECT_THAT(text,
              HasSubstr("| whole step less the sum        |       |      0.00 |      25.0 |"));
  EXPECT_THAT(text, HasSubstr("1.25 us"));
}

TEST(BenchReport, JsonHasKernelsOfRowsThatWereTakenApart) {
  BenchRow plain = taken_apart();
  plain.kernels.reset();
  const boost::json::value all =
      boost::json::parse(bench_json({"gpu", {}, {4e12, 1e12}}, {taken_apart(), plain}));
  const boost::json::array& rows = all.at("rows").as_array();
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_EQ(rows[0].at("kernels").as_array().size(), 2u);
  EXPECT_EQ(rows[0].at("kernels").at(0).at("bytes").as_int64(), 40'000'000);
  EXPECT_FALSE(rows[1].as_object().contains("kernels"));
}

// HW-5: W4A4 and W4A16 give other results, so a figure says which it is of.
TEST(BenchReport, SaysByWhichKernelsTheRowsRan) {
  const BenchSetup setup = {"gpu",
                            {{"experts", "NVFP4", {"W4A16 NVFP4 on BF16 tensor cores", "exact"}},
                             {"attention", "BF16", {"tiles on tensor cores", "they take it"}}},
                            {4e12, 1e12}};
  BenchRow row = taken_apart();
  const std::string text = bench_table(setup, {row}, 1 << 20);
  EXPECT_THAT(text, HasSubstr("device       gpu\n"
                              "experts      W4A16 NVFP4 on BF16 tensor cores\n"
                              "attention    tiles on tensor cores\n"
                              "reads        4000.0 GB/s"));
  const boost::json::value all = boost::json::parse(bench_json(setup, {row}));
  ASSERT_EQ(all.at("kernels").as_array().size(), 2u);
  const boost::json::value& experts = all.at("kernels").at(0);
  EXPECT_EQ(experts, (boost::json::value{{"kind", "experts"},
                                         {"format", "NVFP4"},
                                         {"kernel", "W4A16 NVFP4 on BF16 tensor cores"},
                                         {"why", "exact"}}));
}

}  // namespace
}  // namespace facet::cli
