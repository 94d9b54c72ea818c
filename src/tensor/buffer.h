#pragma once

#include <cstddef>
#include <cstdint>

#include "tensor/tensor.h"

namespace facet {

/// Owned bytes, move-only, aligned to kAlignment. The memory comes from `Allocator`, which a device
/// supplies; the host's is host_allocator().
class Buffer {
 public:
  static constexpr int64_t kAlignment = 256;

  /// How a device gives and takes memory. `allocate` throws Error{kOutOfMemory}; memory is zeroed.
  /// `copy` goes between any two places on the host and on the device; it comes after all work that
  /// was given to the device, and is done when it returns.
  struct Allocator {
    void* (*allocate)(int64_t bytes);
    void (*release)(void* data, int64_t bytes) noexcept;
    void (*copy)(void* to, const void* from, int64_t bytes);
    Device device;
  };

  Buffer() = default;
  explicit Buffer(int64_t bytes);
  Buffer(int64_t bytes, const Allocator& allocator);
  ~Buffer();
  Buffer(Buffer&& other) noexcept;
  Buffer& operator=(Buffer&& other) noexcept;

  std::byte* data() const { return data_; }
  int64_t bytes() const { return bytes_; }
  Device device() const { return allocator_.device; }
  const Allocator& allocator() const { return allocator_; }

 private:
  std::byte* data_ = nullptr;
  int64_t bytes_ = 0;
  Allocator allocator_{};
};

/// Anonymous zeroed pages, large ones where the system has them: pages of a large buffer that
/// nobody touches cost no memory.
const Buffer::Allocator& host_allocator();

/// Has the system find memory for bytes [begin, begin + bytes) of a host buffer now, rather than at
/// their first writes, which are slow. Their content stays; other threads may use them meanwhile. A
/// system that cannot is left alone: it will find the memory then.
void populate(const Buffer& buffer, int64_t begin, int64_t bytes);

/// Hands out views of one Buffer, in order; nothing is given back before the arena goes.
class Arena {
 public:
  Arena() = default;
  explicit Arena(Buffer buffer) : buffer_(std::move(buffer)) {}

  /// What a view of this dtype and shape takes from an arena, padding included.
  static int64_t bytes_for(DType dtype, const Shape& shape);
  TensorView take(DType dtype, const Shape& shape);
  int64_t bytes() const { return buffer_.bytes(); }

 private:
  Buffer buffer_;
  int64_t used_ = 0;
};

}  // namespace facet
