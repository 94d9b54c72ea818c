#include "cli/exit_code.h"

#include <cstdio>
#include <exception>
#include <new>

#include "base/log.h"

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

int report_failure() noexcept {
  try {
    if (std::ferror(stdout) != 0) throw Error(ErrorCode::kIo, kUnwritten, "stdout");
    throw;
  } catch (const Error& error) {
    write_note({"facet: ", error.what(), "\n"});
    return exit_code(error.code());
  } catch (const std::bad_alloc&) {
    write_note({"facet: out of memory\n"});
    return exit_code(ErrorCode::kOutOfMemory);
  } catch (const std::exception& error) {
    write_note({"facet: internal fault: ", error.what(), "\n"});
  } catch (...) {
    write_note({"facet: internal fault\n"});
  }
  return exit_code(ErrorCode::kInternal);
}

}  // namespace facet::cli
