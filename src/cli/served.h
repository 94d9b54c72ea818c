#pragma once

#include <memory>
#include <string>
#include <vector>

#include "cli/loaded_model.h"
#include "cli/serve_options.h"
#include "engine/engine.h"
#include "server/served_model.h"

namespace facet::cli {

/// What the routes must know of a loaded model; max_model_len and the fingerprint are set once the
/// engine is there.
/// Throws as the readers of tokenizer.json and the configs do.
std::unique_ptr<ServedModel> served_model(const ServeOptions& options, const LoadedModel& loaded);

/// Options of the engine: room for keys and values by the flags and the memory of this machine.
/// Throws Error{kOutOfMemory} with the numbers and the flags that help.
EngineOptions engine_options(const ServeOptions& options, const LoadedModel& loaded);

/// What keys and values take at least, for the check before a load.
LoadedModel::CacheWish cache_wish(const ServeOptions& options);

/// A line for each KV group: its pages, the tokens they hold, their bytes.
std::vector<std::string> describe_pages(const ServeOptions& options,
                                        const LoadedModel& loaded,
                                        const EngineStatus& status);

/// What bounds the length of a request.
std::string why_model_len(const ServeOptions& options,
                          const LoadedModel& loaded,
                          const EngineLimits& limits);

}  // namespace facet::cli
