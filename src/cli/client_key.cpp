#include "cli/client_key.h"

#include <CLI/CLI.hpp>
#include <cstdlib>

#include "base/mapped_file.h"

namespace facet::cli {
namespace {

constexpr int64_t kMostKeyBytes = 4096;
constexpr const char* kKeyVariable = "FACET_API_KEY";

}  // namespace

void add_client_key_option(CLI::App& command, std::string& key_file) {
  command.add_option("--api-key-file", key_file,
                     "A file with the server's key; without it the environment's FACET_API_KEY");
}

std::string client_key(const std::string& key_file) {
  if (key_file.empty()) {
    const char* key = std::getenv(kKeyVariable);
    return key == nullptr ? std::string() : std::string(key);
  }
  const std::string text = read_file(key_file, kMostKeyBytes);
  return text.substr(0, text.find_first_of("\r\n"));
}

}  // namespace facet::cli
