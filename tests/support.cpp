#include "tests/support.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <sstream>
#include <stdlib.h>

namespace facet::test {

namespace fs = std::filesystem;

TempDir::TempDir() {
  std::string pattern = (fs::temp_directory_path() / "facet-test-XXXXXX").string();
  if (mkdtemp(pattern.data()) == nullptr) {
    ADD_FAILURE() << "cannot make a folder like " << pattern;
    std::abort();
  }
  path_ = pattern;
}

TempDir::~TempDir() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
}

std::string TempDir::path(std::string_view name) const {
  return name.empty() ? path_ : path_ + "/" + std::string(name);
}

void TempDir::write(std::string_view name, std::string_view content) const {
  const fs::path file = path(name);
  fs::create_directories(file.parent_path());
  std::ofstream out(file, std::ios::binary);
  out.write(content.data(), static_cast<std::streamsize>(content.size()));
  if (!out) ADD_FAILURE() << "cannot write " << file;
}

std::string source_dir() {
  const char* chosen = std::getenv("FACET_SOURCE");  // where the tests were carried to
  return chosen != nullptr ? chosen : FACET_SOURCE_DIR;
}

std::string data_path(std::string_view name) {
  return source_dir() + "/tests/data/" + std::string(name);
}

std::optional<std::string> shared_path(std::string_view name) {
  const char* chosen = std::getenv("FACET_SHARED");
  const std::string root = chosen != nullptr ? chosen : source_dir() + "/../shared";
  std::string path = root + "/" + std::string(name);
  if (!fs::exists(path)) return std::nullopt;
  return path;
}

std::string read_text(const std::string& path) {
  const std::ifstream in(path, std::ios::binary);
  if (!in) ADD_FAILURE() << "cannot read " << path;
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

}  // namespace facet::test
