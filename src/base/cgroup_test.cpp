#include "base/cgroup.h"

#include <gtest/gtest.h>

#include "tests/support.h"

namespace facet {
namespace {

class Cgroup : public testing::Test {
 protected:
  void write(const std::string& name, const std::string& text) {
    std::filesystem::create_directories(std::filesystem::path(dir_.path(name)).parent_path());
    dir_.write(name, text);
  }
  CgroupLimits limits() const { return cgroup_limits(dir_.path("fs"), dir_.path("self")); }

  test::TempDir dir_;
};

TEST_F(Cgroup, NothingToReadLimitsNothing) {
  EXPECT_EQ(limits().memory_bytes, INT64_MAX);
  EXPECT_EQ(limits().cores, CgroupLimits{}.cores);
}

TEST_F(Cgroup, TheTightestLevelCounts) {
  write("self", "0::/system.slice/facet.service\n");
  write("fs/system.slice/facet.service/memory.max", "max\n");
  write("fs/system.slice/facet.service/cpu.max", "150000 100000\n");
  write("fs/system.slice/memory.max", "4294967296\n");
  write("fs/system.slice/cpu.max", "max 100000\n");
  EXPECT_EQ(limits().memory_bytes, int64_t{4} << 30);
  EXPECT_DOUBLE_EQ(limits().cores, 1.5);
}

TEST_F(Cgroup, AContainerSeesItsOwnGroupAtTheRoot) {
  write("self", "0::/\n");
  write("fs/memory.max", "1073741824\n");
  write("fs/cpu.max", "200000 100000\n");
  EXPECT_EQ(limits().memory_bytes, int64_t{1} << 30);
  EXPECT_DOUBLE_EQ(limits().cores, 2);
}

TEST_F(Cgroup, VersionOneHasAMountForEachController) {
  write("self", "5:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n3:cpuset:/\n");
  write("fs/memory/memory.limit_in_bytes", "2147483648\n");  // /docker/abc is not mounted in there
  write("fs/cpu,cpuacct/docker/abc/cpu.cfs_quota_us", "50000\n");
  write("fs/cpu,cpuacct/docker/abc/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(limits().memory_bytes, int64_t{2} << 30);
  EXPECT_DOUBLE_EQ(limits().cores, 0.5);
}

TEST_F(Cgroup, VersionOnesWordForNoLimitIsNone) {
  write("self", "5:memory:/\n4:cpu,cpuacct:/\n");
  write("fs/memory/memory.limit_in_bytes", "9223372036854771712\n");
  write("fs/cpu,cpuacct/cpu.cfs_quota_us", "-1\n");
  write("fs/cpu,cpuacct/cpu.cfs_period_us", "100000\n");
  EXPECT_GT(limits().memory_bytes, int64_t{1} << 60);
  EXPECT_EQ(limits().cores, CgroupLimits{}.cores);
}

}  // namespace
}  // namespace facet
