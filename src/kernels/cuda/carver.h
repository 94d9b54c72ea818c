#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/device.h"

namespace facet::cuda {

/// Takes pieces of a workspace in turn, each at 256 bytes; with a null one it only measures.
class Carver {
 public:
  explicit Carver(std::byte* base) : base_(base) {}
  template <typename T>
  T* take(int64_t count) {
    std::byte* piece = base_ == nullptr ? nullptr : base_ + used_;
    used_ += round_up(count * static_cast<int64_t>(sizeof(T)), 256);
    return reinterpret_cast<T*>(piece);
  }
  int64_t used() const { return used_; }

 private:
  std::byte* base_;
  int64_t used_ = 0;
};

}  // namespace facet::cuda
