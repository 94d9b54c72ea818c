#include <CLI/CLI.hpp>

#include "cli/bench_model.h"
#include "cli/commands.h"

namespace facet::cli {

void add_bench(CLI::App& app, Chosen& chosen) {
  CLI::App* command = app.add_subcommand("bench", "Measure speed; see facet bench model --help");
  command->require_subcommand(1);
  add_bench_model(*command, chosen);
}

}  // namespace facet::cli
