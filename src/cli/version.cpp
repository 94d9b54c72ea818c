#include <CLI/CLI.hpp>
#include <fmt/core.h>
#include <string>

#include "cli/commands.h"
#include "commit.h"

namespace facet::cli {

void add_version(CLI::App& app, Chosen& chosen) {
  const std::string what = "Print the version, the commit and what is built in";
  const std::string text =
      fmt::format("facet {} commit {}\ncuda: {}", FACET_VERSION, FACET_COMMIT, FACET_CUDA_TEXT);
  app.set_version_flag("--version", text, what);
  CLI::App* command = app.add_subcommand("version", what);
  command->callback([&chosen, text] { chosen = [text] { fmt::print("{}\n", text); }; });
}

}  // namespace facet::cli
