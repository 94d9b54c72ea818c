#pragma once

#include "tensor/buffer.h"
#include "tensor/tensor.h"

namespace facet {

/// The content of a view of the host in memory of another allocator.
class DeviceCopy {
 public:
  DeviceCopy(TensorView host, const Buffer::Allocator& allocator);
  TensorView view() const { return {memory_.data(), dtype_, shape_, memory_.device()}; }

 private:
  Buffer memory_;
  DType dtype_;
  Shape shape_;
};

}  // namespace facet
