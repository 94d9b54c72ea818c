#pragma once

#include "base/error.h"

namespace facet::cli {

inline constexpr int kExitDone = 0;
inline constexpr int kExitUsage = 64;
/// What is said of a stdout that took no more.
inline constexpr const char* kUnwritten = "the output could not be written";

/// The documented exit code of a failure: 64 usage and bad input, 65 bad checkpoint, 69 device
/// missing, 70 engine fault, 71 out of memory, 78 unsafe settings.
int exit_code(ErrorCode code);

/// To be called while an exception is handled: says it in one line on stderr and returns its exit
/// code. Output that could not be written is told as such, whatever was thrown.
int report_failure() noexcept;

}  // namespace facet::cli
