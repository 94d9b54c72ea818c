#include "cli/exit_code.h"

namespace facet::cli {

int exit_code(ErrorCode code) {
  switch (code) {
    case ErrorCode::kUsage:
    case ErrorCode::kBadInput:
      return kExitUsage;
    case ErrorCode::kBadCheckpoint:
    case ErrorCode::kIo:
      return 65;
    case ErrorCode::kDevice:
      return 69;
    case ErrorCode::kInternal:
      return 70;
    case ErrorCode::kOutOfMemory:
      return 71;
    case ErrorCode::kUnsafeSettings:
      return 78;
  }
  return 70;
}

}  // namespace facet::cli
