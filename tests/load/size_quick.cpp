#include "tests/load/load_size.h"

namespace facet::test {

LoadSize load_size() {
  return {.timed = false,
          .streams = 500,
          .disconnects = 500,
          .disconnect_seconds = 1,
          .slow_heads = 300,
          .slow_bodies = 60,
          .stalled_readers = 60,
          .overload_seconds = 2,
          .drained_streams = 50,
          .requests = 3000,
          .restarts = 2};
}

}  // namespace facet::test
