#include <cstdlib>

#include "tests/load/load_size.h"

namespace facet::test {
namespace {

double given(const char* variable, double otherwise) {
  const char* text = std::getenv(variable);
  return text == nullptr ? otherwise : std::strtod(text, nullptr);
}

}  // namespace

LoadSize load_size() {
  return {.timed = true,
          .streams = 10000,
          .disconnects = 10000,
          .disconnect_seconds = 10,
          .slow_heads = 5000,
          .slow_bodies = 1000,
          .stalled_readers = 1000,
          .overload_seconds = given("FACET_LOAD_OVERLOAD_SECONDS", 15),
          .drained_streams = 500,
          .requests = static_cast<int64_t>(given("FACET_LOAD_REQUESTS", 50000)),
          .restarts = 20};
}

}  // namespace facet::test
