#pragma once

#include <string>
#include <vector>

namespace facet::test {

struct Finished {
  int exit_code = -1;  ///< -signal if a signal ended it
  std::string out;
  std::string err;
};

/// Runs the built program with `arguments`, `input` as its standard input, and waits for it.
Finished run_facet(const std::vector<std::string>& arguments, const std::string& input = {});

}  // namespace facet::test
