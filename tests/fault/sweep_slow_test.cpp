#include <cstdio>
#include <cstdlib>
#include <gtest/gtest.h>

#include "tests/fault/sweep.h"

namespace facet {
namespace {

// Every system call of the mix, and every 17th allocation: a server that ends takes a second.
// FACET_FAULT_PART=2/16: the second sixteenth of all calls, allocations too.
TEST(FaultSweep, AFaultAtEveryCall) {
  test::SweepPart part = {.most = 500};
  if (const char* given = std::getenv("FACET_FAULT_PART")) {
    part.most = 0;
    ASSERT_EQ(std::sscanf(given, "%ld/%ld", &part.first, &part.step), 2) << given;
    ASSERT_TRUE(part.first >= 1 && part.first <= part.step) << given;
  }
  test::sweep_faults(part);
}

}  // namespace
}  // namespace facet
