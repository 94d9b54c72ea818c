#include "quant/weight_matrix.h"

#include <cstring>

#include "base/check.h"
#include "quant/float_formats.h"
#include "quant/fp8.h"
#include "quant/int4.h"
#include "quant/int8.h"
#include "quant/nvfp4.h"

namespace facet {
namespace {

int64_t ceil_div(int64_t value, int64_t by) { return (value + by - 1) / by; }

DType plain_dtype(WeightFormat format) {
  if (format == WeightFormat::kF32) return DType::kF32;
  return format == WeightFormat::kF16 ? DType::kF16 : DType::kBF16;
}

int32_t bits_per_weight(WeightFormat format) {
  switch (format) {
    case WeightFormat::kF32:
      return 32;
    case WeightFormat::kF16:
    case WeightFormat::kBF16:
      return 16;
    case WeightFormat::kFp8:
    case WeightFormat::kFp8Block:
    case WeightFormat::kInt8Group:
      return 8;
    case WeightFormat::kNvfp4:
    case WeightFormat::kInt4Group:
      return 4;
  }
  CHECK(false, "weight format {} has no size", static_cast<int>(format));
}

/// The row of `scales` that holds the scales of weight row `row`.
int64_t scale_row(const WeightMatrix& matrix, int64_t row) {
  if (matrix.format == WeightFormat::kFp8Block) return row / kFp8Block;
  return matrix.format == WeightFormat::kFp8 && matrix.scale_rows == 1 ? 0 : row;
}

const std::byte* scales_at(const WeightMatrix& matrix, int64_t row) {
  if (matrix.scales == nullptr) return nullptr;
  const int64_t bytes = scale_cols(matrix) * bits_of(matrix.scale_dtype) / 8;
  return matrix.scales + scale_row(matrix, row) * bytes;
}

/// The usual format of large matrices: without a call for each element.
void decode_bf16_row(const std::byte* data, std::span<float> out) {
  for (size_t c = 0; c < out.size(); ++c) {
    uint16_t bits = 0;
    std::memcpy(&bits, data + 2 * c, sizeof(bits));
    out[c] = bf16_to_float(bits);
  }
}

}  // namespace

int64_t row_bytes(const WeightMatrix& matrix) {
  return matrix.cols * bits_per_weight(matrix.format) / 8;
}

int64_t scale_cols(const WeightMatrix& matrix) {
  switch (matrix.format) {
    case WeightFormat::kF32:
    case WeightFormat::kF16:
    case WeightFormat::kBF16:
      return 0;
    case WeightFormat::kFp8:
      return 1;
    case WeightFormat::kFp8Block:
      return ceil_div(matrix.cols, kFp8Block);
    case WeightFormat::kNvfp4:
      return matrix.cols / kNvfp4Block;
    case WeightFormat::kInt4Group:
      return matrix.cols / matrix.group_size;
    case WeightFormat::kInt8Group:
      return ceil_div(matrix.cols, matrix.group_size);
  }
  CHECK(false, "weight format {} has no scales", static_cast<int>(matrix.format));
}

int64_t scale_bytes(const WeightMatrix& matrix) {
  return matrix.scale_rows * scale_cols(matrix) * bits_of(matrix.scale_dtype) / 8;
}

int64_t stored_bytes(const WeightMatrix& matrix) {
  const int64_t scalars = matrix.format == WeightFormat::kNvfp4 ? 4 : 0;
  return matrix.rows * row_bytes(matrix) + scale_bytes(matrix) + scalars;
}

void dequantize_row(const WeightMatrix& matrix, int64_t row, std::span<float> out) {
  CHECK(row >= 0 && row < matrix.rows && static_cast<int64_t>(out.size()) == matrix.cols,
        "row {} of [{}, {}] into {} values", row, matrix.rows, matrix.cols, out.size());
  const std::byte* data = matrix.data + row * row_bytes(matrix);
  const std::byte* scales = scales_at(matrix, row);
  switch (matrix.format) {
    case WeightFormat::kBF16:
      return decode_bf16_row(data, out);
    case WeightFormat::kF32:
    case WeightFormat::kF16: {
      const DType dtype = plain_dtype(matrix.format);
      for (size_t c = 0; c < out.size(); ++c) {
        out[c] = read_float(data, dtype, static_cast<int64_t>(c));
      }
      return;
    }
    case WeightFormat::kFp8:
      return decode_fp8_row(data, read_float(scales, matrix.scale_dtype, 0), out);
    case WeightFormat::kFp8Block:
      return decode_fp8_block_row(data, scales, matrix.scale_dtype, out);
    case WeightFormat::kNvfp4:
      return decode_nvfp4_row(data, scales, matrix.global_scale, out);
    case WeightFormat::kInt4Group:
      return decode_int4_row(data, scales, matrix.scale_dtype, matrix.group_size, out);
    case WeightFormat::kInt8Group:
      return decode_int8_row(data, scales, matrix.scale_dtype, matrix.group_size, out);
  }
}

WeightMatrix slice_rows(const WeightMatrix& matrix, int64_t begin, int64_t count) {
  CHECK(begin >= 0 && count >= 0 && count <= matrix.rows - begin, "rows [{}, {}) of a matrix of {}",
        begin, begin + count, matrix.rows);
  const bool blocks = matrix.format == WeightFormat::kFp8Block;
  CHECK(!blocks || begin % kFp8Block == 0, "row {} cuts a block of scales", begin);
  WeightMatrix slice = matrix;
  slice.rows = count;
  slice.data += begin * row_bytes(matrix);
  slice.scales = scales_at(matrix, begin);
  if (blocks) {
    slice.scale_rows = ceil_div(count, kFp8Block);
  } else if (matrix.scales != nullptr &&
             !(matrix.format == WeightFormat::kFp8 && matrix.scale_rows == 1)) {
    slice.scale_rows = count;
  }
  return slice;
}

}  // namespace facet
