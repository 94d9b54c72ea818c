// Who may read a file of keys.

#include <fmt/core.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "server/keys.h"
#include "tests/support.h"

namespace facet {
namespace {

class KeysFile : public testing::Test {
 protected:
  KeysFile() { dir_.write("keys", std::string(40, 'k')); }
  bool loads(mode_t mode) const {
    chmod(dir_.path("keys").c_str(), mode);
    try {
      return KeyRing::load(dir_.path("keys")).size() == 1;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kUnsafeSettings) << error.what();
      return false;
    }
  }

  test::TempDir dir_;
};

TEST_F(KeysFile, IsReadByItsOwnerAlone) {
  EXPECT_TRUE(loads(0600));
  EXPECT_TRUE(loads(0400));
  for (const mode_t mode : {0604, 0660, 0620, 0444, 0401})
    EXPECT_FALSE(loads(mode)) << fmt::format("{:o}", mode);
}

TEST_F(KeysFile, RootsGroupMayAsSystemdMakesCredentials) {
  if (geteuid() != 0) GTEST_SKIP() << "only root can make a file of root's";
  EXPECT_TRUE(loads(0440));
  ASSERT_EQ(chown(dir_.path("keys").c_str(), 0, 1), 0);
  EXPECT_FALSE(loads(0440));
  ASSERT_EQ(chown(dir_.path("keys").c_str(), 1, 0), 0);
  EXPECT_FALSE(loads(0440));
}

}  // namespace
}  // namespace facet
