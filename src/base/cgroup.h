#pragma once

#include <cstdint>
#include <filesystem>

namespace facet {

/// What control groups (v2 or v1) permit this process: a container's --memory and --cpus, a
/// service's MemoryMax= and CPUQuota=. The tightest level above it counts.
struct CgroupLimits {
  int64_t memory_bytes = INT64_MAX;
  double cores = 1e9;  ///< processor seconds per second
};

/// What cannot be read limits nothing. `root` is where the groups are mounted, `membership` the
/// list of those this process is in.
CgroupLimits cgroup_limits(const std::filesystem::path& root = "/sys/fs/cgroup",
                           const std::filesystem::path& membership = "/proc/self/cgroup");

}  // namespace facet
