#include "verify/report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <limits>

namespace facet {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;

constexpr Tolerance kTight = {"tight", 1e-5, 2e-5, 1e-4};

VerifyReport clean() {
  VerifyReport report;
  report.layers.resize(3);
  report.layers[1].routing = RoutingDifference{.rows = 4, .equal = 3, .ties = 1, .gap = 1e-5};
  return report;
}

std::string only_fault(const VerifyReport& report) {
  const std::vector<Fault> faults = find_faults(report, kTight);
  return faults.size() == 1 ? faults.front().where : std::to_string(faults.size()) + " faults";
}

TEST(FindFaults, SmallDifferencesAndTiesAreNone) {
  VerifyReport report = clean();
  report.layers[0].attention.relative = 1e-5;
  report.layers[2].feed_forward.of_change = 2e-5;
  report.layers[1].routing->weight = 1e-4;
  EXPECT_THAT(find_faults(report, kTight), IsEmpty());
}

TEST(FindFaults, EachPartIsNamed) {
  const auto with = [](const auto& change) {
    VerifyReport report = clean();
    change(report);
    return only_fault(report);
  };
  EXPECT_EQ(with([](auto& r) { r.embedding.relative = 1; }), "embedding");
  EXPECT_EQ(with([](auto& r) { r.per_layer_inputs = Difference{.relative = 1}; }),
            "per-layer inputs");
  EXPECT_EQ(with([](auto& r) { r.layers[0].attention.relative = 2e-5; }), "layer 0 attention");
  EXPECT_EQ(with([](auto& r) { r.layers[2].attention.of_change = 3e-5; }), "layer 2 attention");
  EXPECT_EQ(with([](auto& r) { r.layers[1].routing->ties = 0; }), "layer 1 router");
  EXPECT_EQ(with([](auto& r) { r.layers[1].routing->weight = 2e-4; }), "layer 1 router");
  EXPECT_EQ(with([](auto& r) { r.layers[1].feed_forward.relative = 2e-5; }),
            "layer 1 feed-forward");
  EXPECT_EQ(with([](auto& r) { r.final_norm.relative = 1; }), "final norm");
  EXPECT_EQ(with([](auto& r) { r.logits.relative = std::numeric_limits<double>::quiet_NaN(); }),
            "logits");
}

TEST(FindFaults, TheyStandInTheOrderOfTheForwardPass) {
  VerifyReport report = clean();
  report.logits.relative = 1;
  report.layers[2].attention = {.relative = 1, .position = 17};
  report.layers[0].feed_forward.relative = 1;
  const std::vector<Fault> faults = find_faults(report, kTight);
  ASSERT_EQ(faults.size(), 3u);
  EXPECT_EQ(faults[0].where, "layer 0 feed-forward");
  EXPECT_EQ(faults[1].where, "layer 2 attention");
  EXPECT_THAT(faults[1].what, HasSubstr("position 17"));
  EXPECT_EQ(faults[2].where, "logits");
}

TEST(FindFaults, TheFreeRunIsNotJudged) {
  VerifyReport report = clean();
  report.free.logits.relative = 1;
  EXPECT_THAT(find_faults(report, kTight), IsEmpty());
}

}  // namespace
}  // namespace facet
