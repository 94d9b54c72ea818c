#include "tensor/shape.h"

#include <algorithm>

#include "base/check.h"

namespace facet {

Shape::Shape(std::initializer_list<int64_t> extents)
    : Shape(std::span<const int64_t>(extents.begin(), extents.size())) {}

Shape::Shape(std::span<const int64_t> extents) : rank_(static_cast<int32_t>(extents.size())) {
  CHECK(extents.size() <= kMaxRank, "rank {}", extents.size());
  std::copy(extents.begin(), extents.end(), extents_.begin());
}

int64_t Shape::operator[](int32_t axis) const {
  CHECK(axis >= 0 && axis < rank_, "axis {} of rank {}", axis, rank_);
  return extents_[static_cast<size_t>(axis)];
}

int64_t Shape::elements() const {
  int64_t product = 1;
  for (const int64_t extent : extents()) product *= extent;
  return product;
}

std::string to_string(const Shape& shape) {
  std::string text = "[";
  for (int32_t axis = 0; axis < shape.rank(); ++axis) {
    if (axis > 0) text += ", ";
    text += std::to_string(shape[axis]);
  }
  return text + "]";
}

}  // namespace facet
