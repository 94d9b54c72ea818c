#pragma once

#include "cli/commands.h"

namespace facet::cli {

/// Adds `bench model` to the command `bench`.
void add_bench_model(CLI::App& bench, Chosen& chosen);

}  // namespace facet::cli
