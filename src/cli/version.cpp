#include <CLI/CLI.hpp>
#include <fmt/core.h>

#include "cli/commands.h"
#include "commit.h"

namespace facet::cli {

void add_version(CLI::App& app, Chosen& chosen) {
  CLI::App* command =
      app.add_subcommand("version", "Print the version, the commit and what is built in");
  command->callback([&chosen] {
    chosen = [] {
      fmt::print("facet {} commit {}\n", FACET_VERSION, FACET_COMMIT);
      fmt::print("cuda: not built in\n");
    };
  });
}

}  // namespace facet::cli
