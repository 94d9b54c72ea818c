#pragma once

#include <string>

#include "cli/loaded_model.h"
#include "cli/serve_options.h"
#include "engine/engine.h"
#include "server/served_info.h"

namespace facet::cli {

/// The flags of a command as a JSON object, by name ("max_queue"), with the values that are in
/// force. Of what leads to a secret only whether it is given is told: "***".
std::string describe_settings(const CLI::App& command);

/// What the information routes tell; load_seconds is left to the caller.
ServedInfo served_info(const ServeOptions& options,
                       const LoadedModel& loaded,
                       const Engine& engine);

}  // namespace facet::cli
