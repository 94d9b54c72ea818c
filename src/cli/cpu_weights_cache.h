#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "checkpoint/safetensors.h"

namespace facet::cli {

/// What a cache of lossy weights was made from: all three must agree.
struct WeightsIdentity {
  std::string format;       ///< "NVFP4", "INT8"
  uint64_t checkpoint = 0;  ///< of the matrices' shapes and samples of their values
  int64_t bytes = 0;        ///< of the cached data
  bool operator==(const WeightsIdentity&) const = default;
};

/// Opens a cache file: one tensor "data", bound to its identity and checksummed. nullopt if there
/// is no file; also, after one warning that says why, if it is damaged or was made from something
/// else. Throws Error{kUsage} if the file is no such cache: it might be anything of the user's.
std::optional<SafetensorsFile> open_weights_cache(const std::string& path,
                                                  const WeightsIdentity& identity);
/// The cached bytes.
std::span<const std::byte> cached_data(const SafetensorsFile& file);

/// Writes the file. Throws Error{kIo}.
void write_weights_cache(const std::string& path,
                         const WeightsIdentity& identity,
                         std::span<const std::byte> data);

}  // namespace facet::cli
