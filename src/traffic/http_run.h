#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "server/http/client_stream.h"
#include "traffic/record.h"

namespace facet {

/// One request of a run, ready to be sent.
struct HttpRequest {
  std::string bytes;          ///< head and body
  int32_t output_tokens = 0;  ///< that must come; 0: any number
};

struct HttpRun {
  http::Endpoint endpoint;
  std::vector<HttpRequest> requests;
  std::vector<double> arrivals;  ///< seconds after the first, ascending; one per request
  int32_t concurrency = 0;       ///< most requests under way; 0: any number
  double timeout_s = 0;          ///< for one request
  std::function<void(int64_t ended)> on_progress;  ///< may be empty
};

/// Sends all requests, each over a connection of its own, and notes what comes, on the calling
/// thread alone. SIGINT and SIGTERM end the run early: what is under way then is cut. A request
/// that cannot be sent, is refused, breaks off, or is answered with another number of tokens than
/// it must be, has failed.
RunRecords run_over_http(HttpRun run);

}  // namespace facet
