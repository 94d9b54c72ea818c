#pragma once

#include "cli/commands.h"

namespace facet::cli {

/// Adds `bench serve` to the command `bench`.
void add_bench_serve(CLI::App& bench, Chosen& chosen);

}  // namespace facet::cli
