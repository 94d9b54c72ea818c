#include "tests/fault/sweep.h"

#include <gtest/gtest.h>

namespace facet {
namespace {

TEST(FaultSweep, AFaultNowAndThen) { test::sweep_faults({.most = 12}); }

}  // namespace
}  // namespace facet
