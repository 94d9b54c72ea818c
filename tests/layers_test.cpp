// Holds every #include under src/ against src/layers.txt: each folder looks only downwards, there
// is no cycle, and guarded outside headers (CUDA, Boost, Highway, …) appear only where the file
// allows them.

#include <filesystem>
#include <fmt/core.h>
#include <fstream>
#include <gtest/gtest.h>
#include <map>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "tests/support.h"

namespace facet {
namespace {

namespace fs = std::filesystem;

struct Layers {
  std::map<std::string, std::set<std::string>> arrows;    // folder -> folders it names
  std::map<std::string, std::set<std::string>> external;  // <prefix -> folders that may include it

  /// All that `folder` may include: itself and whatever its arrows reach.
  std::set<std::string> reach(const std::string& folder) const {
    std::set<std::string> seen = {folder};
    std::vector<std::string> open = {folder};
    while (!open.empty()) {
      const std::string at = open.back();
      open.pop_back();
      const auto found = arrows.find(at);
      if (found == arrows.end()) continue;
      for (const std::string& next : found->second) {
        if (seen.insert(next).second) open.push_back(next);
      }
    }
    return seen;
  }
};

Layers read_layers(std::istream& in) {
  Layers layers;
  std::string line;
  while (std::getline(in, line)) {
    if (line.empty() || line[0] == '#') continue;
    std::istringstream words(line);
    std::string name;
    std::string colon;
    words >> name;
    const bool external = name == "extern";
    if (external) words >> name;
    words >> colon;
    auto& targets = external ? layers.external[name] : layers.arrows[name];
    for (std::string target; words >> target;) targets.insert(target);
  }
  return layers;
}

/// Faults of one source text that lies in `folder`.
std::vector<std::string> faults_in(const Layers& layers,
                                   const std::string& folder,
                                   const std::string& text) {
  static const std::regex kInclude(R"re(^\s*#\s*include\s*([<"])([^>"]+)[>"])re");
  std::vector<std::string> faults;
  if (!layers.arrows.contains(folder)) {
    return {fmt::format("folder '{}' has no line in layers.txt", folder)};
  }
  const std::set<std::string> allowed = layers.reach(folder);
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    std::smatch match;
    if (!std::regex_search(line, match, kInclude)) continue;
    const std::string header = match[2];
    if (match[1] == "<") {
      for (const auto& [prefix, folders] : layers.external) {
        if (header.starts_with(prefix) && !folders.contains(folder)) {
          faults.push_back(fmt::format("'{}' must not include <{}>", folder, header));
        }
      }
      continue;
    }
    const size_t slash = header.rfind('/');
    if (slash == std::string::npos) continue;  // a generated header
    const std::string target = header.substr(0, slash);
    if (target != "tests" && !allowed.contains(target)) {
      faults.push_back(fmt::format("'{}' must not look at \"{}\"", folder, header));
    }
  }
  return faults;
}

TEST(Layers, EveryIncludeLooksDown) {
  const fs::path src = fs::path(test::source_dir()) / "src";
  std::ifstream file(src / "layers.txt");
  const Layers layers = read_layers(file);
  ASSERT_FALSE(layers.arrows.empty());
  int32_t files = 0;
  for (const auto& entry : fs::recursive_directory_iterator(src)) {
    const std::string extension = entry.path().extension();
    if (extension != ".h" && extension != ".cpp" && extension != ".cu" && extension != ".cuh")
      continue;
    ++files;
    const std::string folder = fs::relative(entry.path().parent_path(), src);
    for (const std::string& fault : faults_in(layers, folder, test::read_text(entry.path()))) {
      ADD_FAILURE() << entry.path() << ": " << fault;
    }
  }
  EXPECT_GT(files, 10);
}

TEST(Layers, ArrowsHaveNoCycle) {
  std::ifstream file(fs::path(test::source_dir()) / "src/layers.txt");
  const Layers layers = read_layers(file);
  for (const auto& [folder, targets] : layers.arrows) {
    for (const std::string& target : targets) {
      EXPECT_TRUE(layers.arrows.contains(target)) << folder << " points to unknown " << target;
      EXPECT_FALSE(layers.reach(target).contains(folder))
          << folder << " and " << target << " form a cycle";
    }
  }
}

TEST(Layers, TheCheckItselfFindsAFault) {
  std::istringstream text("base :\ntensor : base\nextern hwy/ : tensor\n");
  const Layers layers = read_layers(text);
  EXPECT_TRUE(faults_in(layers, "tensor", "#include \"base/error.h\"\n").empty());
  EXPECT_EQ(faults_in(layers, "base", "#include \"tensor/dtype.h\"\n").size(), 1u);
  EXPECT_EQ(faults_in(layers, "base", "#include <hwy/highway.h>\n").size(), 1u);
  EXPECT_TRUE(faults_in(layers, "tensor", "#include <hwy/highway.h>\n").empty());
}

}  // namespace
}  // namespace facet
