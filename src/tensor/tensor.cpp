#include "tensor/tensor.h"

#include <array>

namespace facet {

TensorView TensorView::slice_rows(int64_t begin, int64_t count) const {
  CHECK(begin >= 0 && count >= 0 && begin + count <= rows(), "rows {}+{} of {}", begin, count,
        to_string(shape_));
  std::array<int64_t, Shape::kMaxRank> extents{};
  for (int32_t axis = 0; axis < shape_.rank(); ++axis) {
    extents[static_cast<size_t>(axis)] = axis == 0 ? count : shape_[axis];
  }
  const int64_t row_bytes = rows() == 0 ? 0 : bytes() / rows();
  return {static_cast<std::byte*>(data_) + begin * row_bytes, dtype_,
          Shape(std::span(extents).first(static_cast<size_t>(shape_.rank()))), device_};
}

TensorView TensorView::reshaped(Shape shape) const {
  CHECK(shape.elements() == elements(), "{} as {}", to_string(shape_), to_string(shape));
  return {data_, dtype_, shape, device_};
}

}  // namespace facet
