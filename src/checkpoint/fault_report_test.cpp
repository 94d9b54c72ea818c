#include "checkpoint/fault_report.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace facet {
namespace {

std::string thrown(const FaultReport& report) {
  try {
    report.throw_if_any();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kBadCheckpoint);
    return error.what();
  }
  return "nothing";
}

TEST(FaultReport, EmptyDoesNotThrow) {
  const FaultReport report;
  EXPECT_TRUE(report.empty());
  EXPECT_EQ(thrown(report), "nothing");
}

TEST(FaultReport, NamesEveryFaultInOrder) {
  FaultReport report;
  report.missing("model.layers.0.x", "BF16 [112, 112]");
  report.extra("model.layers.0.y", "no part of the model");
  report.wrong_shape("a", "[1]", "[2]");
  report.wrong_dtype("b", "F32", "BF16");
  report.bad("c", "holds NaN");
  EXPECT_EQ(report.lines().size(), 5u);
  EXPECT_EQ(thrown(report),
            "5 faults:\n"
            "missing  model.layers.0.x: wanted BF16 [112, 112]\n"
            "extra    model.layers.0.y: no part of the model\n"
            "shape    a: found [1], wanted [2]\n"
            "dtype    b: found F32, wanted BF16\n"
            "bad      c: holds NaN");
}

TEST(FaultReport, HostileNamesStayOnOneLine) {
  FaultReport report;
  report.missing("x\nmissing  y: wanted nothing\x1b[2J", "F32 [1]");
  EXPECT_EQ(thrown(report),
            "1 fault:\nmissing  x\\x0amissing  y: wanted nothing\\x1b[2J: wanted F32 [1]");
}

}  // namespace
}  // namespace facet
