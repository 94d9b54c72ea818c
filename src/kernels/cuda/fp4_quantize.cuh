#pragma once

// How activations become NVFP4: the formulas of ref/w4a4.h, bit for bit.

#include "kernels/cuda/fp4.h"
#include "kernels/cuda/paged_kv.cuh"

namespace facet::cuda {

inline constexpr int kFp4Block = 16;

/// nvfp4_scale_offset_128x4 (quant/nvfp4.h).
__device__ inline int64_t fp4_scale_offset(int64_t row, int64_t scale_col, int64_t scale_cols) {
  const int64_t tile = row / 128 * ((scale_cols + 3) / 4) + scale_col / 4;
  return tile * 512 + row % 32 * 16 + row % 128 / 32 * 4 + scale_col % 4;
}

/// Bytes of the scales of `tiles` times 128 rows.
__host__ __device__ constexpr int64_t fp4_scale_bytes(int64_t tiles, int64_t cols) {
  return tiles * ((cols / kFp4Block + 3) / 4) * 512;
}

/// Nearest, ties to even, saturating, as float_to_e2m1.
__device__ inline uint32_t to_e2m1(float value) {
  const float m = fabsf(value);
  const uint32_t code = (m > 0.25F) + (m >= 0.75F) + (m > 1.25F) + (m >= 1.75F) + (m > 2.5F) +
                        (m >= 3.5F) + (m > 5.0F);
  return value < 0.0F ? code | 8u : code;
}

/// Quantises a block; its codes go to `codes` (8 bytes), the scale is returned.
__device__ inline uint8_t quantize_block(const float (&block)[kFp4Block],
                                         float input_scale,
                                         uint8_t* codes) {
  const float gain = __fdiv_rn(1.0F, input_scale);
  float amax = 0.0F;
#pragma unroll
  for (const float value : block) amax = fmaxf(amax, fabsf(value));
  const uint8_t scale = to_e4m3(__fdiv_rn(__fmul_rn(gain, amax), 6.0F));
  const float value_of_scale = from_e4m3(scale);
  const float factor = value_of_scale == 0.0F ? 0.0F : __fdiv_rn(gain, value_of_scale);
  uint32_t words[2] = {0, 0};
#pragma unroll
  for (int i = 0; i < kFp4Block; ++i)
    words[i / 8] |= to_e2m1(__fmul_rn(block[i], factor)) << (i % 8 * 4);
  *reinterpret_cast<uint2*>(codes) = make_uint2(words[0], words[1]);
  return scale;
}

}  // namespace facet::cuda
