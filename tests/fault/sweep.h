#pragma once

#include <cstdint>

namespace facet::test {

/// One call after the other is made to fail under a fixed mix of requests, of each kind about
/// `most`, spread over the mix. After each fault the server must go on, and then every later answer
/// is right and nothing is leaked, or end with one line and a documented exit code; no client may
/// get a wrong answer that looks complete. Skips the test where the shim cannot be used.
void sweep_faults(int64_t most);

}  // namespace facet::test
