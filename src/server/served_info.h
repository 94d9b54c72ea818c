#pragma once

#include <string>
#include <vector>

namespace facet {

/// What the information routes and /metrics say of the program and the model beside what requests
/// need. Constant.
struct ServedInfo {
  std::string version = "unknown";
  std::string commit = "unknown";
  std::string model_type;                  ///< of config.json
  std::vector<std::string> architectures;  ///< of config.json
  std::string settings = "{}";  ///< a JSON object: the flags of the command line, without secrets
  std::string memory = "{}";    ///< a JSON object: where weights, keys and values lie
  std::string kernels = "[]";   ///< a JSON array: what runs which ops, and why
  double load_seconds = 0;      ///< from the start to the first request that could be served
};

}  // namespace facet
