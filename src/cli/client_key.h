#pragma once

#include <string>

namespace CLI {  // NOLINT(readability-identifier-naming): the library's own name
class App;
}

namespace facet::cli {

/// Declares --api-key-file of a client.
void add_client_key_option(CLI::App& command, std::string& key_file);

/// The file's first line, or without a file the environment's FACET_API_KEY; empty if there is
/// neither. Never from the command line, which others can see. Throws as read_file().
std::string client_key(const std::string& key_file);

}  // namespace facet::cli
