#pragma once

#include <cstdint>
#include <string_view>

#include "server/api_error.h"
#include "server/http/message.h"

namespace facet {

/// What a fault of the protocol is called here; `body_limit` in bytes, 0: bodies are not taken.
ApiError error_of(http::Fault fault, int64_t body_limit);

/// error_response() in the shape that clients of `path` read (server-api 4): {"error":"text"} under
/// /api/, {"type":"error","error":{"type","message"},"request_id"} for /v1/messages.
http::Response refusal_at(std::string_view path,
                          const ApiError& error,
                          std::string_view request_id);

}  // namespace facet
