#pragma once

// What the product kernels are told of a matrix: plain data.

#include <cstddef>
#include <cstdint>

#include <cuda_runtime_api.h>

#include "tensor/dtype.h"

namespace facet::cuda {

inline constexpr int kStep = 64;         ///< columns that a product takes at a time
inline constexpr int kStepBytesX = 128;  ///< of a token's BF16 values
constexpr int64_t steps_of(int64_t cols) { return (cols + kStep - 1) / kStep; }

/// K is cut into this many parts, whatever the launch, whose sums are added in order: what a row
/// gets then depends neither on T nor on how the work was dealt out. A narrow K stays whole.
inline constexpr int kChunks = 4;
__host__ __device__ constexpr int chunks_of(int steps) { return steps < 16 ? 1 : kChunks; }

/// Bytes from one token's x to the next in shared memory of the streaming kernels: an odd number of
/// 64 bytes, so that a warp reads 16 bytes a lane without bank conflicts.
constexpr int64_t x_pitch(int32_t steps) { return int64_t{steps} * kStepBytesX + 64; }

/// Where the bands, 16 rows each, of one matrix lie in device memory. Row-major: rows 0-7 of band b
/// begin at lower + b * band_rows * pitch, rows 8-15 likewise at upper. Tiles of NVFP4
/// (quant/nvfp4_tiles.h): all at `lower`.
struct BandSource {
  const uint8_t* lower = nullptr;
  const uint8_t* upper = nullptr;
  int64_t pitch = 0;  ///< bytes of a row
  int32_t band_rows =
      16;  ///< rows of `lower` that a band takes up: 8 where `upper` is a matrix too
  int32_t lower_rows = 0;  ///< rows that there are from `lower` on
  int32_t upper_rows = 0;
  int32_t bands = 0;
  int32_t steps = 0;
};

/// What a finished sum of row r is multiplied by: `factor`, then scales[r] where there are any.
struct OutScale {
  const std::byte* scales = nullptr;
  DType dtype = DType::kF32;  ///< kF32, kF16 or kBF16
  int32_t count = 0;          ///< 0: none; 1: one for all rows
  float factor = 1.0F;
};

// How a format's bytes reach the tensor cores: steps.cuh.
struct Bf16Steps;
struct Fp8Steps;
struct Nvfp4Steps;

/// NVFP4 weights leave their kernels' decoders as 2^-8 times their value.
inline constexpr float kNvfp4Gain = 256.0F;

}  // namespace facet::cuda
