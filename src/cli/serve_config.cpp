#include "cli/serve_config.h"

#include <CLI/CLI.hpp>
#include <fmt/core.h>
#include <utility>

#include "base/error.h"
#include "base/text.h"

namespace facet::cli {
namespace {

void fill_in(CLI::App& command, const std::string& path) {
  for (const CLI::ConfigItem& item : CLI::ConfigTOML().from_file(path)) {
    const std::string name = item.fullname();
    CLI::Option* option = command.get_option_no_throw("--" + name);
    if (option == nullptr || name == "config" || name == "help") {
      throw CLI::ValidationError(
          path, fmt::format("no flag '{}' (see facet serve --help)", printable(name, 60)));
    }
    if (option->count() > 0) continue;
    if (option->get_expected_max() == 0) {
      option->add_result(option->get_flag_value(name, CLI::ConfigTOML().to_flag(item)));
    } else {
      option->add_result(item.inputs);
    }
  }
}

}  // namespace

void add_config_option(CLI::App& command, std::string& path, std::function<void()> found) {
  command.add_option_function<std::string>(
      "--config",
      [&command, &path, found = std::move(found)](const std::string& file) {
        path = file;
        found();
        fill_in(command, file);
      },
      "A file of these flags, one a line as name=value; the command line wins");
}

std::optional<std::string> config_value(const std::string& path, const std::string& flag) {
  try {
    std::optional<std::string> value;
    for (const CLI::ConfigItem& item : CLI::ConfigTOML().from_file(path)) {
      if (item.fullname() == flag && !item.inputs.empty()) value = item.inputs.back();
    }
    return value;
  } catch (const CLI::Error& error) {
    throw Error(ErrorCode::kUsage, error.what(), path);
  }
}

}  // namespace facet::cli
