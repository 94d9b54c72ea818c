#pragma once

#include <string>

#include "engine/engine.h"
#include "server/route.h"
#include "server/server_meters.h"

namespace facet {

/// What the information routes and /metrics look at. On the loop's thread.
struct ServerView {
  const ServedModel& model;
  const ServerSettings& settings;
  const Engine& engine;
  const ServerMeters& meters;
};

// Bodies of the routes of server-api 10.4.
std::string model_info_body(const ServerView& view);   ///< /model_info, /get_model_info
std::string server_info_body(const ServerView& view);  ///< /server_info, /get_server_info
std::string props_body(const ServerView& view);        ///< /props, in llama-server's shape
std::string version_body(const ServerView& view);      ///< /version

/// /metrics: every series of server-api 11.2 in Prometheus' text format 0.0.4.
std::string metrics_text(const ServerView& view);
inline constexpr const char* kMetricsType = "text/plain; version=0.0.4; charset=utf-8";

/// /openapi.json: openapi.json of this folder, with the version put in.
std::string_view openapi_text();

}  // namespace facet
