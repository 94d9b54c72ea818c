#pragma once

#include <string>
#include <vector>

namespace facet::test {

// The program's exit codes (server-api 17).
inline constexpr int kUsage = 64;
inline constexpr int kBadCheckpoint = 65;
inline constexpr int kDevice = 69;

/// The folder of a golden that the repository holds.
std::string golden(const std::string& name);

struct Finished {
  int exit_code = -1;  ///< -signal if a signal ended it
  std::string out;
  std::string err;
};

/// Runs the built program with `arguments`, `input` as its standard input, and waits for it.
Finished run_facet(const std::vector<std::string>& arguments, const std::string& input = {});

}  // namespace facet::test
