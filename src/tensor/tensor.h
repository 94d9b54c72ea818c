#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>

#include "base/check.h"
#include "tensor/dtype.h"
#include "tensor/shape.h"

namespace facet {

/// Where bytes live. Only Buffer::Allocator::copy crosses between host and device.
enum class Device : uint8_t { kHost, kCuda };

template <typename T>
constexpr DType dtype_of() {
  if constexpr (std::is_same_v<T, float>) return DType::kF32;
  if constexpr (std::is_same_v<T, uint16_t>) return DType::kBF16;
  if constexpr (std::is_same_v<T, int32_t>) return DType::kI32;
  if constexpr (std::is_same_v<T, int64_t>) return DType::kI64;
  if constexpr (std::is_same_v<T, uint8_t>) return DType::kU8;
}

/// A typed, shaped, contiguous row-major view. Owns nothing; whoever hands it out says who does.
class TensorView {
 public:
  TensorView() = default;
  TensorView(const void* data, DType dtype, Shape shape, Device device = Device::kHost)
      : data_(const_cast<void*>(data)), dtype_(dtype), device_(device), shape_(shape) {}

  bool empty() const { return data_ == nullptr; }
  void* data() const { return data_; }
  DType dtype() const { return dtype_; }
  Device device() const { return device_; }
  const Shape& shape() const { return shape_; }
  int64_t rows() const { return shape_[0]; }
  int64_t elements() const { return shape_.elements(); }
  int64_t bytes() const { return elements() * bits_of(dtype_) / 8; }

  /// The elements as T on the host; CHECKs the dtype (uint16_t stands for the bits of a BF16).
  template <typename T>
  std::span<T> as() const {
    CHECK(dtype_ == dtype_of<std::remove_const_t<T>>() && device_ == Device::kHost,
          "a {} view read as another type or from the host", to_string(dtype_));
    return {static_cast<T*>(data_), static_cast<size_t>(elements())};
  }

  /// Rows [begin, begin + count) of the first axis.
  TensorView slice_rows(int64_t begin, int64_t count) const;
  /// The same elements under another shape of the same size.
  TensorView reshaped(Shape shape) const;

 private:
  void* data_ = nullptr;
  DType dtype_ = DType::kF32;
  Device device_ = Device::kHost;
  Shape shape_;
};

}  // namespace facet
