#pragma once

#include <cstdint>

namespace facet::test {

/// Which calls of a kind: all that are `first` or a multiple of `step` after it.
struct SweepPart {
  int64_t first = 1;
  int64_t step = 1;
  int64_t most = 0;  ///< of a kind with many calls, about so many, spread over all; 0: no bound
};

/// One call after the other is made to fail under a fixed mix of requests. After each fault the
/// server must go on, and then every later answer is right and nothing is leaked, or end with one
/// line and a documented exit code; no client may get a wrong answer that looks complete. Skips the
/// test where the shim cannot be used.
void sweep_faults(const SweepPart& part);

}  // namespace facet::test
