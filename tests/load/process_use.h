#pragma once

#include <cstdint>
#include <sys/types.h>

namespace facet::test {

/// What a process holds, as /proc says. Fails the test if it cannot be read.
struct ProcessUse {
  int64_t resident = 0;  ///< bytes
  int64_t descriptors = 0;
  int64_t threads = 0;
};
ProcessUse process_use(pid_t process);

}  // namespace facet::test
