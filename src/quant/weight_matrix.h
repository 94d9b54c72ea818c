#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "quant/format.h"
#include "tensor/dtype.h"

namespace facet {

// clang-format off
/// One weight matrix [rows, cols] = [out, in] as it lies in the checkpoint: a view, the mapped file
/// owns the bytes, at any alignment. w[r,c] is the value of dequantize_row(): float32 products in
/// the order of the brackets, without further rounding.
///
/// format          data                                  scales (scale_dtype)              w[r,c]
/// kF32 kF16 kBF16 values [rows, cols]                   none                              value
/// kFp8            E4M3 [rows, cols]                     [rows], or [1] if scale_rows == 1 e4m3 * scale[r]
/// kFp8Block       E4M3 [rows, cols]                     [ceil(rows/128), ceil(cols/128)]  e4m3 * scale[r/128, c/128]
/// kNvfp4          2 codes a byte [rows, cols/2],        E4M3 [rows, cols/16]              e2m1 * scale[r, c/16] * global_scale
///                 low nibble = even column
/// kInt4Group      8 codes a 32-bit word [rows, cols/8], [rows, cols/group_size]           (code - 8) * scale[r, c/group_size]
///                 nibble j = column 8*word + j
/// kInt8Group      signed codes [rows, cols]             [rows, ceil(cols/group_size)]     code * scale[r, c/group_size]
// clang-format on
struct WeightMatrix {
  WeightFormat format = WeightFormat::kBF16;
  int64_t rows = 0;
  int64_t cols = 0;
  const std::byte* data = nullptr;
  const std::byte* scales = nullptr;
  DType scale_dtype = DType::kF32;  ///< kF32, kF16 or kBF16; kF8E4M3 for kNvfp4
  int64_t scale_rows = 0;           ///< rows of `scales`
  int32_t group_size = 0;           ///< columns per scale: 16 for kNvfp4, the file's for kInt4Group
  float global_scale = 1.0F;  ///< kNvfp4: ModelOpt's weight_scale_2 (compressed-tensors' value
                              ///< inverted)
  float input_scale = 0.0F;   ///< static activation scale of the file (compressed-tensors' NVFP4
                              ///< value inverted), or 0; weight-only paths ignore it

  bool empty() const { return data == nullptr; }
};

/// Bytes of codes (or values) in one row.
int64_t row_bytes(const WeightMatrix& matrix);
/// Scales in one row of `scales`: 0 for plain values, 1 for kFp8.
int64_t scale_cols(const WeightMatrix& matrix);
/// Bytes of `scales`: scale_rows * scale_cols() values of scale_dtype.
int64_t scale_bytes(const WeightMatrix& matrix);
/// All bytes a weight-only product with this matrix reads: codes, scales and global_scale.
int64_t stored_bytes(const WeightMatrix& matrix);

/// out[c] = w[row, c], c < cols. CHECKs that out.size() == cols and row is in range.
void dequantize_row(const WeightMatrix& matrix, int64_t row, std::span<float> out);

/// The matrix of rows [begin, begin + count), a view of the same bytes. CHECKs the range, and that
/// for kFp8Block `begin` is a multiple of 128.
WeightMatrix slice_rows(const WeightMatrix& matrix, int64_t begin, int64_t count);

}  // namespace facet
