#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <unordered_map>
#include <vector>

#include "kernels/cuda/device_memory.h"

namespace facet::cuda {

/// Gathers pieces of the host's memory, then brings them to the GPU as one block: threads copy into a
/// ring of pinned memory, from which large copies run beside them.
class Upload {
 public:
  /// Adds a piece, once; a second one that begins at the same place must not be longer.
  void add(const void* host, int64_t bytes);
  int64_t bytes() const { return bytes_; }

  /// Called with bytes done and bytes in all.
  using OnProgress = std::function<void(int64_t done, int64_t total)>;
  /// Each piece begins at a multiple of Buffer::kAlignment.
  Buffer run(const OnProgress& on_progress);
  /// Where a piece lies in the block.
  int64_t offset(const void* host) const;

 private:
  struct Piece {
    const std::byte* host = nullptr;
    int64_t bytes = 0;
    int64_t offset = 0;
  };

  std::vector<Piece> pieces_;
  std::unordered_map<const void*, size_t> index_;
  int64_t bytes_ = 0;
};

}  // namespace facet::cuda
