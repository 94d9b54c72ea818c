#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <unordered_map>
#include <vector>

#include "base/worker_pool.h"
#include "kernels/cuda/device_memory.h"

namespace facet::cuda {

/// Pinned memory through which large copies run to the GPU while threads fill the next piece of it.
class UploadRing {
 public:
  /// Slots of `slot_bytes` each.
  explicit UploadRing(int64_t slot_bytes);
  ~UploadRing();
  UploadRing(const UploadRing&) = delete;
  UploadRing& operator=(const UploadRing&) = delete;

  int64_t slot_bytes() const { return slot_bytes_; }
  WorkerPool& pool() { return pool_; }
  /// The next slot, once it is free.
  std::byte* take();
  /// Copies `bytes` of the slot that was taken last.
  void send(std::byte* to, int64_t bytes);
  /// Waits for all copies.
  void finish() const;

 private:
  static constexpr size_t kSlots = 3;

  struct Slot {
    PinnedBuffer memory;
    Event free;
  };

  const int64_t slot_bytes_;
  WorkerPool pool_;
  cudaStream_t stream_ = nullptr;
  std::array<Slot, kSlots> slots_;
  size_t turn_ = 0;
};

/// Pieces of the host's memory that go to the GPU as one block.
class Upload {
 public:
  /// Adds a piece, once; a second one that begins at the same place must not be longer.
  void add(const void* host, int64_t bytes);
  int64_t bytes() const { return bytes_; }

  /// Called with the bytes done since the last call.
  using OnBytes = std::function<void(int64_t bytes)>;
  /// Returns the block. Each piece begins at a multiple of Buffer::kAlignment.
  Buffer run(UploadRing& ring, const OnBytes& on_bytes) const;
  /// Where a piece lies in the block.
  int64_t offset(const void* host) const;

 private:
  struct Piece {
    const std::byte* host = nullptr;
    int64_t bytes = 0;
    int64_t offset = 0;
  };

  /// Copies bytes [low, high) of the block.
  void gather(std::byte* to, int64_t low, int64_t high) const;

  std::vector<Piece> pieces_;
  std::unordered_map<const void*, size_t> index_;
  int64_t bytes_ = 0;
};

}  // namespace facet::cuda
