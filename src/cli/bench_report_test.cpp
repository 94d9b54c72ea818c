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
  const DevicePeaks peaks = {4e12, 1e12};
  BenchRow plain = taken_apart();
  plain.kernels.reset();
  const boost::json::value all =
      boost::json::parse(bench_json("gpu", peaks, {taken_apart(), plain}));
  const boost::json::array& rows = all.at("rows").as_array();
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_EQ(rows[0].at("kernels").as_array().size(), 2u);
  EXPECT_EQ(rows[0].at("kernels").at(0).at("bytes").as_int64(), 40'000'000);
  EXPECT_FALSE(rows[1].as_object().contains("kernels"));
}

}  // namespace
}  // namespace facet::cli
