#pragma once

// Operands of ops, checked.

#include "base/check.h"
#include "kernels/cuda/device.h"
#include "tensor/tensor.h"

namespace facet::cuda {

/// The elements of an operand on the device, float32 of this shape.
inline float* values(TensorView view, const Shape& shape, const char* name) {
  CHECK(view.device() == Device::kCuda && view.dtype() == DType::kF32 && view.shape() == shape,
        "{}: {} {}, not F32 {} on the GPU", name, to_string(view.dtype()), to_string(view.shape()),
        to_string(shape));
  return static_cast<float*>(view.data());
}

inline float* values(TensorView view, const char* name) { return values(view, view.shape(), name); }

inline int32_t* indices(TensorView view, const Shape& shape, const char* name) {
  CHECK(view.device() == Device::kCuda && view.dtype() == DType::kI32 && view.shape() == shape,
        "{}: {} {}, not I32 {} on the GPU", name, to_string(view.dtype()), to_string(view.shape()),
        to_string(shape));
  return static_cast<int32_t*>(view.data());
}

}  // namespace facet::cuda
