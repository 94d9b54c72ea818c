#include <gtest/gtest.h>

#include "tests/fault/sweep.h"

namespace facet {
namespace {

TEST(FaultSweep, AFaultAtEveryCall) { test::sweep_faults(INT64_MAX); }

}  // namespace
}  // namespace facet
