#include <gtest/gtest.h>

#include "tests/fault/sweep.h"

namespace facet {
namespace {

// Every system call of the mix, and every 17th allocation: a server that ends takes a second.
TEST(FaultSweep, AFaultAtEveryCall) { test::sweep_faults(500); }

}  // namespace
}  // namespace facet
