#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace facet::test {

/// A folder of its own for one test, removed with all it holds at the end.
class TempDir {
 public:
  TempDir();
  ~TempDir();
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;

  /// The folder's path, or with a name that of a file in it.
  std::string path(std::string_view name = {}) const;
  /// Writes (or overwrites) a file in it; folders on the way are made.
  void write(std::string_view name, std::string_view content) const;

 private:
  std::string path_;
};

/// The repository's root.
std::string source_dir();
/// A file or folder under tests/data.
std::string data_path(std::string_view name);
/// A file or folder of the shared reference data, which lies in ../shared beside the checkout (or
/// where FACET_SHARED says); nullopt if it is not there. Use FACET_REQUIRE_SHARED to skip with a
/// reason.
std::optional<std::string> shared_path(std::string_view name);
/// The whole file as a string; fails the test if it cannot be read.
std::string read_text(const std::string& path);

}  // namespace facet::test

/// Declares `variable`, the path of shared reference data `name`, or skips the test and says why.
#define FACET_REQUIRE_SHARED(variable, name)                                                      \
  const auto variable##_found = ::facet::test::shared_path(name);                                 \
  if (!variable##_found) GTEST_SKIP() << "reference data ../shared/" << (name) << " is not here"; \
  const std::string& variable = *variable##_found
