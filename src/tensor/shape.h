#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>

namespace facet {

/// Up to eight extents, row-major (the last varies fastest). Rank 0 is a scalar of one element.
class Shape {
 public:
  static constexpr int32_t kMaxRank = 8;

  Shape() = default;
  Shape(std::initializer_list<int64_t> extents);
  explicit Shape(std::span<const int64_t> extents);

  int32_t rank() const { return rank_; }
  int64_t operator[](int32_t axis) const;
  std::span<const int64_t> extents() const { return {extents_.data(), static_cast<size_t>(rank_)}; }
  /// Product of the extents. Readers of files check for overflow before they build a Shape.
  int64_t elements() const;
  bool operator==(const Shape&) const = default;

 private:
  std::array<int64_t, kMaxRank> extents_{};
  int32_t rank_ = 0;
};

/// "[704, 1408]"; "[]" for a scalar.
std::string to_string(const Shape& shape);

}  // namespace facet
