#pragma once

#include <functional>
#include <optional>
#include <string>
#include <sys/types.h>
#include <vector>

namespace facet::test {

// The program's exit codes (server-api 17).
inline constexpr int kUsage = 64;
inline constexpr int kBadCheckpoint = 65;
inline constexpr int kDevice = 69;

/// The folder of a golden that the repository holds.
std::string golden(const std::string& name);

/// The facet that is tested: FACET_PROGRAM of the environment, where the tests were carried
/// elsewhere, or the one that was built with them.
const std::string& facet_program();

struct Finished {
  int exit_code = -1;  ///< -signal if a signal ended it
  std::string out = {};
  std::string err = {};
};

/// Where a program's standard files lie; empty: a file of its own.
struct RunOptions {
  std::string input = {};                     ///< what stdin holds
  std::string out = {};                       ///< a path in place of what Finished::out tells
  std::string err = {};                       ///< the same for stderr
  std::vector<std::string> environment = {};  ///< "NAME=value", beside the test's own
  std::optional<int> closed = {};             ///< this descriptor is closed
  std::function<void()> before = {};          ///< called in the new process, before the program
};

/// Runs the built program with `arguments`, `input` as its standard input, and waits for it.
Finished run_facet(const std::vector<std::string>& arguments, const std::string& input = {});
Finished run_facet(const std::vector<std::string>& arguments, const RunOptions& options);

/// Starts `program`, which writes stdout and stderr to the new file `log`. `environment` as in
/// RunOptions.
pid_t start_program(const std::string& program,
                    const std::vector<std::string>& arguments,
                    const std::string& log,
                    const std::vector<std::string>& environment = {});

}  // namespace facet::test
