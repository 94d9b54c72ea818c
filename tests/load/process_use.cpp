#include "tests/load/process_use.h"

#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <string>

namespace facet::test {

ProcessUse process_use(pid_t process) {
  namespace fs = std::filesystem;
  const fs::path folder = "/proc/" + std::to_string(process);
  const auto entries = [&](const char* name) {
    return std::distance(fs::directory_iterator(folder / name), fs::directory_iterator());
  };
  ProcessUse use;
  std::ifstream in(folder / "smaps_rollup");
  for (std::string word; in >> word;) {
    if (word == "Rss:" && in >> use.resident) break;
  }
  EXPECT_GT(use.resident, 0) << folder;
  use.resident *= 1024;  // was KiB
  use.descriptors = entries("fd");
  use.threads = entries("task");
  return use;
}

}  // namespace facet::test
