#pragma once

#include <string>

namespace facet::cli {

/// Writes `path`: {"files": [{"name", "bytes", "sha256"}]} over the regular files of `folder`, by
/// name.
void write_manifest(const std::string& folder, const std::string& path);

/// Throws Error{kBadCheckpoint} that lists every file that is missing, extra or different from the
/// manifest.
void check_manifest(const std::string& folder, const std::string& path);

}  // namespace facet::cli
