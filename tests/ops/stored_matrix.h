#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "quant/weight_matrix.h"

namespace facet::test {

enum class ScaleRows { kPerRow, kOne };

/// A way to store a matrix.
struct MatrixKind {
  const char* name;
  WeightFormat format;
  DType scale_dtype = DType::kF32;
  ScaleRows scale_rows = ScaleRows::kPerRow;  ///< for kFp8
  int32_t group_size = 0;
  int64_t column_step = 1;  ///< the columns are a multiple of it
};

/// Every weight format, FP8 and INT4 in their variants.
inline constexpr std::array<MatrixKind, 13> kMatrixKinds = {{
    {"f32", WeightFormat::kF32},
    {"f16", WeightFormat::kF16},
    {"bf16", WeightFormat::kBF16},
    {"fp8 per row", WeightFormat::kFp8, DType::kBF16},
    {"fp8 per tensor", WeightFormat::kFp8, DType::kF32, ScaleRows::kOne},
    {"fp8 blocks", WeightFormat::kFp8Block, DType::kF32},
    {"fp8 blocks, bf16 scales", WeightFormat::kFp8Block, DType::kBF16},
    {"nvfp4", WeightFormat::kNvfp4, DType::kF8E4M3, ScaleRows::kPerRow, 16, 16},
    {"int4 g32", WeightFormat::kInt4Group, DType::kBF16, ScaleRows::kPerRow, 32, 32},
    {"int4 g32, f32 scales", WeightFormat::kInt4Group, DType::kF32, ScaleRows::kPerRow, 32, 32},
    {"int4 g128", WeightFormat::kInt4Group, DType::kF16, ScaleRows::kPerRow, 128, 128},
    {"int8 g64", WeightFormat::kInt8Group, DType::kBF16, ScaleRows::kPerRow, 64},
    {"int8 g20, f32 scales", WeightFormat::kInt8Group, DType::kF32, ScaleRows::kPerRow, 20},
}};
inline constexpr MatrixKind kF32Kind = kMatrixKinds[0];

/// A random matrix of any format; data and scales stand at odd addresses, as they may in a mapped
/// file. Every code of the format occurs; scales are unequal and positive.
class StoredMatrix {
 public:
  StoredMatrix(const MatrixKind& kind, int64_t rows, int64_t cols, uint32_t seed);
  /// A float32 matrix of these values.
  StoredMatrix(int64_t rows, int64_t cols, const std::vector<float>& values);
  StoredMatrix(StoredMatrix&&) = default;
  StoredMatrix& operator=(StoredMatrix&&) = default;

  const WeightMatrix& matrix() const { return matrix_; }

 private:
  std::vector<std::byte> data_;
  std::vector<std::byte> scales_;
  WeightMatrix matrix_;  // views data_ and scales_, whose memory moves along with this
};

}  // namespace facet::test
