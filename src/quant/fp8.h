#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "tensor/dtype.h"

namespace facet {

/// Rows and columns under one scale of block FP8.
inline constexpr int32_t kFp8Block = 128;

/// out[c] = e4m3(values[c]) * scale, in float32. values: [out.size()].
void decode_fp8_row(const std::byte* values, float scale, std::span<float> out);
/// out[c] = e4m3(values[c]) * scales[c / 128], in float32. values: [out.size()]; scales: the block
/// row's [ceil(out.size() / 128)] of F32, F16 or BF16.
void decode_fp8_block_row(const std::byte* values,
                          const std::byte* scales,
                          DType scale_dtype,
                          std::span<float> out);

struct Fp8Matrix {
  std::vector<uint8_t> values;   ///< E4M3 [rows, cols]
  std::vector<uint16_t> scales;  ///< BF16 [rows]
};

/// Quantises w: [rows, cols] with a scale per row: scale = BF16 of max(amax(|row|) / 448, 1e-12),
/// value = nearest E4M3 of w / scale, saturating. Every w must be finite, else Error{kBadInput}.
Fp8Matrix quantize_fp8_channel(std::span<const float> w, int64_t rows, int64_t cols);

}  // namespace facet
