#include "server/prometheus_text.h"

#include <array>
#include <cmath>
#include <gtest/gtest.h>

namespace facet {
namespace {

using Type = PrometheusText::Type;

TEST(PrometheusText, SamplesFollowTheirFamily) {
  PrometheusText text("a\"b\\c\nd");
  text.family("x_total", Type::kCounter, "Things.");
  text.sample(int64_t{7});
  text.sample(int64_t{8}, {{"kind", "q\"q"}});
  text.family("y", Type::kGauge, "Share.");
  text.sample(0.25);
  text.sample(1e-7);
  text.sample(INFINITY);
  text.sample(std::nan(""));
  EXPECT_EQ(text.release(),
            "# HELP x_total Things.\n# TYPE x_total counter\n"
            "x_total{model_name=\"a\\\"b\\\\c\\nd\"} 7\n"
            "x_total{model_name=\"a\\\"b\\\\c\\nd\",kind=\"q\\\"q\"} 8\n"
            "# HELP y Share.\n# TYPE y gauge\n"
            "y{model_name=\"a\\\"b\\\\c\\nd\"} 0.25\n"
            "y{model_name=\"a\\\"b\\\\c\\nd\"} 1e-07\n"
            "y{model_name=\"a\\\"b\\\\c\\nd\"} +Inf\n"
            "y{model_name=\"a\\\"b\\\\c\\nd\"} NaN\n");
}

TEST(PrometheusText, BucketsAreCumulative) {
  constexpr std::array kBorders = {0.5, 20.0};
  Histogram histogram(kBorders);
  for (const double value : {0.25, 0.5, 3.0, 40.0}) histogram.observe(value);
  PrometheusText text("m");
  text.family("h", Type::kHistogram, "Times.");
  text.histogram(histogram.snapshot());
  EXPECT_EQ(text.release(),
            "# HELP h Times.\n# TYPE h histogram\n"
            "h_bucket{model_name=\"m\",le=\"0.5\"} 2\n"
            "h_bucket{model_name=\"m\",le=\"20\"} 3\n"
            "h_bucket{model_name=\"m\",le=\"+Inf\"} 4\n"
            "h_sum{model_name=\"m\"} 43.75\n"
            "h_count{model_name=\"m\"} 4\n");
}

}  // namespace
}  // namespace facet
