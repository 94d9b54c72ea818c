#include "tests/ops/stored_matrix.h"

#include <cstring>
#include <random>

#include "base/check.h"
#include "quant/float_formats.h"

namespace facet::test {
namespace {

void append(std::vector<std::byte>& bytes, const void* value, size_t size) {
  const auto* from = static_cast<const std::byte*>(value);
  bytes.insert(bytes.end(), from, from + size);
}

void append_float(std::vector<std::byte>& bytes, DType dtype, float value) {
  if (dtype == DType::kF32) return append(bytes, &value, sizeof(value));
  if (dtype == DType::kF8E4M3) return bytes.push_back(std::byte{float_to_e4m3(value)});
  const uint16_t half = dtype == DType::kF16 ? float_to_f16(value) : float_to_bf16(value);
  append(bytes, &half, sizeof(half));
}

// [0, 1)
float uniform(std::mt19937& random) { return static_cast<float>(random() >> 8) * 0x1p-24F; }

void append_weights(std::vector<std::byte>& bytes, const WeightMatrix& matrix, uint32_t seed) {
  std::mt19937 random(seed);
  const bool fp8 = matrix.format == WeightFormat::kFp8 || matrix.format == WeightFormat::kFp8Block;
  if (fp8 || matrix.format == WeightFormat::kNvfp4 || matrix.format == WeightFormat::kInt4Group ||
      matrix.format == WeightFormat::kInt8Group) {
    for (int64_t i = 0; i < matrix.rows * row_bytes(matrix); ++i) {
      auto code = static_cast<uint8_t>(random());
      if (fp8 && (code & 0x7fu) == 0x7fu) code ^= 1u;  // NaN
      bytes.push_back(std::byte{code});
    }
    return;
  }
  const DType dtype = matrix.format == WeightFormat::kF32   ? DType::kF32
                      : matrix.format == WeightFormat::kF16 ? DType::kF16
                                                            : DType::kBF16;
  for (int64_t i = 0; i < matrix.rows * matrix.cols; ++i) {
    append_float(bytes, dtype, 2.0F * uniform(random) - 1.0F);
  }
}

}  // namespace

StoredMatrix::StoredMatrix(const MatrixKind& kind, int64_t rows, int64_t cols, uint32_t seed)
    : data_(1), scales_(1) {
  CHECK(cols % kind.column_step == 0, "{} columns of {}", cols, kind.name);
  matrix_.format = kind.format;
  matrix_.rows = rows;
  matrix_.cols = cols;
  matrix_.scale_dtype = kind.scale_dtype;
  matrix_.group_size = kind.group_size;
  if (scale_cols(matrix_) > 0) {
    matrix_.scale_rows = kind.scale_rows == ScaleRows::kOne       ? 1
                         : kind.format == WeightFormat::kFp8Block ? (rows + 127) / 128
                                                                  : rows;
  }
  if (kind.format == WeightFormat::kNvfp4) {
    matrix_.global_scale = 0.013F + 0.001F * static_cast<float>(seed % 7);
  }
  append_weights(data_, matrix_, seed);
  std::mt19937 random(seed + 1);
  for (int64_t i = 0; i < matrix_.scale_rows * scale_cols(matrix_); ++i) {
    // NVFP4's scales run from subnormals to the largest E4M3.
    const float scale = kind.format != WeightFormat::kNvfp4 ? 0.01F + 0.03F * uniform(random)
                        : random() % 8 == 0                 ? 0x1p-9F
                        : random() % 8 == 0                 ? 448.0F
                                                            : 30.0F * uniform(random);
    append_float(scales_, kind.scale_dtype, scale);
  }
  matrix_.data = data_.data() + 1;
  matrix_.scales = matrix_.scale_rows == 0 ? nullptr : scales_.data() + 1;
}

StoredMatrix::StoredMatrix(int64_t rows, int64_t cols, const std::vector<float>& values)
    : data_(1) {
  CHECK(static_cast<int64_t>(values.size()) == rows * cols, "{} values", values.size());
  append(data_, values.data(), values.size() * sizeof(float));
  matrix_.format = WeightFormat::kF32;
  matrix_.rows = rows;
  matrix_.cols = cols;
  matrix_.data = data_.data() + 1;
}

}  // namespace facet::test
