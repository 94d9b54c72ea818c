#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "engine/engine.h"
#include "traffic/record.h"

namespace facet::cli {

struct EngineRun {
  std::vector<Request> requests;  ///< of one choice, without sink
  std::vector<double> arrivals;   ///< seconds after the first, ascending; one per request
  int32_t concurrency = 0;        ///< most requests under way; 0: any number
  std::function<void(int64_t ended)> on_progress;  ///< may be empty
};

/// Hands all requests to the engine and notes what comes, as run_over_http() does of a server.
/// A request with end tokens may end before its max_tokens; any other that does has failed.
RunRecords run_in_engine(Engine& engine, EngineRun run);

}  // namespace facet::cli
