#include "base/partial_file.h"

#include <filesystem>
#include <gtest/gtest.h>

#include "base/error.h"
#include "base/mapped_file.h"
#include "tests/support.h"

namespace facet {
namespace {

size_t files_in(const test::TempDir& dir) {
  const std::filesystem::directory_iterator all(dir.path(""));
  return static_cast<size_t>(std::distance(begin(all), end(all)));
}

TEST(PartialFile, ReplacesAWholeFileOrNothing) {
  const test::TempDir dir;
  const std::string path = dir.path("a.json");
  write_file(path, "old");
  {
    PartialFile file(path);
    file.append(std::as_bytes(std::span("new, but never finished")));
    EXPECT_EQ(files_in(dir), 2u);
  }
  EXPECT_EQ(read_file(path, 100), "old");
  EXPECT_EQ(files_in(dir), 1u) << "nothing is left behind";
  write_file(path, "new");
  EXPECT_EQ(read_file(path, 100), "new");
}

TEST(PartialFile, SaysWhichFileCannotBeWritten) {
  const test::TempDir dir;
  for (const std::string& path : {dir.path("none/a.json"), dir.path("")}) {
    try {
      write_file(path, "x");
      FAIL() << path;
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find(path), std::string::npos) << error.what();
    }
  }
}

TEST(PartialFile, WritesToADeviceAndLeavesItThere) {
  write_file("/dev/null", "x");
  EXPECT_TRUE(std::filesystem::is_character_file("/dev/null"));
}

}  // namespace
}  // namespace facet
