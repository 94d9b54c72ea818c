#include "base/lfs_pointer.h"

#include "base/error.h"

namespace facet {

void refuse_lfs_pointer(std::string_view file) {
  if (!file.starts_with("version https://git-lfs.github.com/spec/")) return;
  throw Error(ErrorCode::kBadCheckpoint,
              "is a Git LFS pointer, not the file it stands for: fetch it with git lfs pull");
}

}  // namespace facet
