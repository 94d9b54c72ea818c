#pragma once

#include <chrono>
#include <string>
#include <string_view>

#include "engine/engine.h"
#include "server/answer.h"
#include "server/served_model.h"

namespace facet {

/// The body of what only says that all is well.
inline constexpr std::string_view kOkBody = R"({"status":"ok"})";

/// Throws ApiError{kEngineStalled} if the engine has failed or makes no step.
void check_health(const EngineStatus& status);

/// The body of /health/ready: queue, running, free pages, uptime.
std::string ready_body(const EngineStatus& status, std::chrono::steady_clock::duration uptime);

/// The request behind /health_generate: one token within 20 seconds.
Prepared prepare_health(const ServedModel& model, const std::string& id);

}  // namespace facet
