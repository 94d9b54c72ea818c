#pragma once

#include <CLI/App.hpp>
#include <functional>
#include <optional>
#include <string>

namespace facet::cli {

/// Adds --config FILE to `command`: a file of the command's own flags, a line each as name=value
/// without the dashes; # begins a comment. What the command line gives wins. Must be the first
/// option of the command, for only those behind it are filled in. `path` becomes FILE; `found` is
/// called before anything is filled in. A file that cannot be read, an unknown flag and a value out
/// of range are usage errors.
///
/// CLI11's own configuration files are for whole programs: it ignores those of a subcommand.
void add_config_option(CLI::App& command, std::string& path, std::function<void()> found);

/// What the file says of one flag now; nothing if it does not. Throws Error{kUsage}.
std::optional<std::string> config_value(const std::string& path, const std::string& flag);

}  // namespace facet::cli
