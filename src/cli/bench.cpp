#include <CLI/CLI.hpp>

#include "cli/bench_engine.h"
#include "cli/bench_model.h"
#include "cli/bench_serve.h"
#include "cli/commands.h"

namespace facet::cli {

void add_bench(CLI::App& app, Chosen& chosen) {
  CLI::App* command = app.add_subcommand(
      "bench", "Measure speed: a server (serve), the engine alone (engine), single steps (model)");
  command->require_subcommand(1);
  add_bench_serve(*command, chosen);
  add_bench_engine(*command, chosen);
  add_bench_model(*command, chosen);
}

}  // namespace facet::cli
