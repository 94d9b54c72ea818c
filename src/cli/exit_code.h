#pragma once

#include "base/error.h"

namespace facet::cli {

inline constexpr int kExitDone = 0;
inline constexpr int kExitUsage = 64;

/// The documented exit code of a failure: 64 usage and bad input, 65 bad checkpoint, 69 device
/// missing, 70 engine fault, 71 out of memory, 78 unsafe settings.
int exit_code(ErrorCode code);

}  // namespace facet::cli
