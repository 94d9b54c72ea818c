#include "base/cgroup.h"

#include <algorithm>
#include <fstream>
#include <string>

namespace facet {
namespace {

namespace fs = std::filesystem;

/// The number that `in` goes on with; `none` for "max" or where there is none.
double next_number(std::ifstream& in, double none) {
  std::string word;
  in >> word;
  const bool digits =
      !word.empty() && word.size() < 20 &&
      std::all_of(word.begin(), word.end(), [](char c) { return c >= '0' && c <= '9'; });
  return digits ? std::stod(word) : none;
}

double number_in(const fs::path& file, double none) {
  std::ifstream in(file);
  return next_number(in, none);
}

void apply(const fs::path& group, CgroupLimits& limits) {
  const auto none = static_cast<double>(INT64_MAX);
  const double memory = std::min(number_in(group / "memory.max", none),
                                 number_in(group / "memory.limit_in_bytes", none));
  if (memory < none)
    limits.memory_bytes = std::min(limits.memory_bytes, static_cast<int64_t>(memory));
  std::ifstream shares(group / "cpu.max");  // "quota period", in microseconds
  double quota = next_number(shares, 0);
  double period = next_number(shares, 0);
  if (!shares.is_open()) {
    quota = number_in(group / "cpu.cfs_quota_us", 0);  // -1: none
    period = number_in(group / "cpu.cfs_period_us", 0);
  }
  if (quota > 0 && period > 0) limits.cores = std::min(limits.cores, quota / period);
}

/// `path` as the kernel tells it, which inside a container may name a level that is not mounted
/// there.
void apply_with_parents(const fs::path& mount, fs::path path, CgroupLimits& limits) {
  while (path.has_relative_path()) {
    apply(mount / path.relative_path(), limits);
    path = path.parent_path();
  }
  apply(mount, limits);
}

}  // namespace

CgroupLimits cgroup_limits(const fs::path& root, const fs::path& membership) {
  CgroupLimits limits;
  std::ifstream in(membership);
  for (std::string line; std::getline(in, line);) {  // "number:controllers:path"
    const size_t first = line.find(':');
    const size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const std::string path = line.substr(second + 1);
    if (controllers.empty()) {
      apply_with_parents(root, path, limits);
    } else if (("," + controllers + ",").find(",memory,") != std::string::npos ||
               ("," + controllers + ",").find(",cpu,") != std::string::npos) {
      apply_with_parents(root / controllers, path, limits);
    }
  }
  return limits;
}

}  // namespace facet
