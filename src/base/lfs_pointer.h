#pragma once

#include <string_view>

namespace facet {

/// Throws Error{kBadCheckpoint} if `file` begins as what Git LFS leaves in place of a large file
/// that was not fetched: a download with git alone looks complete without this.
void refuse_lfs_pointer(std::string_view file);

}  // namespace facet
