// No two types share a name within a namespace: where two files each define one, the linker keeps
// one of their inline functions for both and says nothing.

#include <algorithm>
#include <filesystem>
#include <fmt/core.h>
#include <fmt/ranges.h>
#include <fstream>
#include <gtest/gtest.h>
#include <map>
#include <regex>
#include <set>
#include <string>
#include <vector>

#include "tests/support.h"

namespace facet {
namespace {

namespace fs = std::filesystem;

/// Qualified names of the types a file defines outside anonymous namespaces. Namespaces, and types
/// within them, begin in the first column here; that is all this reads.
std::set<std::string> types_of(const fs::path& file) {
  static const std::regex kOpens(R"(^(?:inline )?namespace ?([\w:]*) ?\{)");
  static const std::regex kCloses(R"(^\}  // namespace)");
  static const std::regex kType(
      R"(^(?:struct|class|union|enum class|enum) (\w+)(?: final)?(?: :.*)?(?: \{.*)?$)");
  std::ifstream in(file);
  std::set<std::string> types;
  std::vector<std::string> namespaces;
  std::smatch found;
  for (std::string line; std::getline(in, line);) {
    if (std::regex_search(line, found, kOpens)) {
      namespaces.push_back(found[1]);
    } else if (std::regex_search(line, kCloses)) {
      if (!namespaces.empty()) namespaces.pop_back();
    } else if (std::regex_match(line, found, kType)) {
      const bool anonymous = std::count(namespaces.begin(), namespaces.end(), "") > 0;
      if (!anonymous)
        types.insert(fmt::format("{}::{}", fmt::join(namespaces, "::"), found[1].str()));
    }
  }
  return types;
}

TEST(Names, EveryTypeHasItsOwn) {
  std::map<std::string, std::set<std::string>> files;  // by type
  for (const char* folder : {"src", "tests"}) {
    for (const auto& entry :
         fs::recursive_directory_iterator(fs::path(test::source_dir()) / folder)) {
      const fs::path& file = entry.path();
      if (file.extension() != ".h" && file.extension() != ".cpp") continue;
      for (const std::string& type : types_of(file))
        files[type].insert(fs::relative(file, test::source_dir()).string());
    }
  }
  EXPECT_TRUE(files.contains("facet::Engine") && files.contains("facet::cpu::CpuBackend"));
  for (const auto& [type, where] : files)
    EXPECT_EQ(where.size(), 1u) << type << " is defined in "
                                << fmt::format("{}", fmt::join(where, ", "));
}

TEST(Names, AFileSaysWhatItDefines) {
  const test::TempDir dir;
  dir.write("a.h",
            "namespace facet {\nstruct A {\n  struct Inner {};\n};\nclass B;\nclass C : A {\n"
            "namespace {\nstruct D {\n}  // namespace\n}  // namespace facet\n"
            "namespace facet::cpu {\nenum class E { kF };\n}  // namespace facet::cpu\n");
  EXPECT_EQ(types_of(dir.path("a.h")),
            (std::set<std::string>{"facet::A", "facet::C", "facet::cpu::E"}));
}

}  // namespace
}  // namespace facet
