#pragma once

#include <cstdint>

#include "base/check.h"
#include "tensor/tensor.h"

namespace facet::ref {

/// The float32 values of the operand called `name`; CHECKs that it has this shape.
inline float* values(const TensorView& view, const Shape& shape, const char* name) {
  CHECK(view.shape() == shape, "{} is {}, not {}", name, to_string(view.shape()), to_string(shape));
  return view.as<float>().data();
}

/// Sum of a[i] * b[i], i < n.
inline double dot(const float* a, const float* b, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += static_cast<double>(a[i]) * static_cast<double>(b[i]);
  return sum;
}

}  // namespace facet::ref
