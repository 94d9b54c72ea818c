#include "base/mapped_file.h"

#include <filesystem>
#include <gtest/gtest.h>

#include "base/error.h"
#include "tests/support.h"

namespace facet {
namespace {

TEST(MappedFile, ReadsAndMoves) {
  const test::TempDir dir;
  dir.write("a.bin", "hello");
  MappedFile file(dir.path("a.bin"));
  MappedFile moved(std::move(file));
  ASSERT_EQ(moved.bytes().size(), 5u);
  EXPECT_EQ(static_cast<char>(moved.bytes()[4]), 'o');
}

TEST(MappedFile, EmptyFileHasNoBytes) {
  const test::TempDir dir;
  dir.write("a.bin", "");
  EXPECT_TRUE(MappedFile(dir.path("a.bin")).bytes().empty());
}

TEST(MappedFile, MissingFileAndFolderAreErrorsThatNameThem) {
  const test::TempDir dir;
  EXPECT_THROW(MappedFile(dir.path("none")), Error);
  try {
    MappedFile folder(dir.path(""));
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("not a regular file"), std::string::npos);
  }
}

TEST(MappedFile, ReadFileRefusesMoreThanTheLimit) {
  const test::TempDir dir;
  dir.write("a.json", "0123456789");
  EXPECT_EQ(read_file(dir.path("a.json"), 10), "0123456789");
  EXPECT_THROW(read_file(dir.path("a.json"), 9), Error);
}

TEST(MappedFileDeathTest, TruncationWhileMappedIsReported) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const test::TempDir dir;
  dir.write("weights.bin", std::string(64 * 1024, 'x'));
  EXPECT_EXIT(
      {
        install_truncation_report(65);
        const MappedFile file(dir.path("weights.bin"));
        std::filesystem::resize_file(dir.path("weights.bin"), 0);
        const volatile std::byte* data = file.bytes().data();
        [[maybe_unused]] const std::byte lost = data[32 * 1024];
      },
      testing::ExitedWithCode(65), "weights.bin: cut short while it was in use");
}

}  // namespace
}  // namespace facet
