#pragma once

#include "cli/commands.h"

namespace facet::cli {

/// Adds `bench engine` to the command `bench`.
void add_bench_engine(CLI::App& bench, Chosen& chosen);

}  // namespace facet::cli
