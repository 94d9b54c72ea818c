#pragma once

// W4A4: NVFP4 weights times activations quantised to NVFP4, as FP4 tensor cores multiply them
// (checkpoint-formats 2.7, 2.8; the arithmetic is ref/w4a4.h).

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/device.h"

namespace facet::cuda {

/// An operand [rows, cols] as FP4 tensor cores read it, on the device.
struct Fp4Operand {
  const uint8_t* codes = nullptr;  ///< E2M1 [rows, cols / 2], low nibble = even column; at 16 bytes
  const uint8_t* scales = nullptr;  ///< E4M3, not negative, where nvfp4_scale_offset_128x4() says
};

/// out[t, r] = alpha * sum over k of w[r, k] * x[t, k].
struct Fp4Product {
  Fp4Operand w;          ///< [rows, cols]
  Fp4Operand x;          ///< [tokens, cols]
  float* out = nullptr;  ///< [tokens, rows]
  float alpha = 1.0F;
  int32_t rows = 0;
  int32_t tokens = 0;  ///< may be 0
  int32_t cols = 0;    ///< a multiple of 32
};

/// A list of products in device memory; the sizes of each are known to the device alone.
struct Fp4List {
  const Fp4Product* products = nullptr;
  int32_t count = 0;
  int32_t most_rows = 0;
};

/// Computes them; sums in float32. Two builds of this exist: fp4_cutlass.cu, for the FP4 tensor
/// cores of sm_100 and sm_103 (not run: no such GPU was at hand), and fp4_plain.cu, for any GPU, by
/// which all that surrounds the products is tested. `workspace`: fp4_workspace_bytes(count).
void fp4_products(cudaStream_t stream, const Fp4List& list, std::byte* workspace);
int64_t fp4_workspace_bytes(int32_t count);
/// Whether this build's fp4_products() runs on FP4 tensor cores of such a GPU (90 is sm_90).
bool has_fp4_cores(int architecture);

/// Stored scales [rows, scale_cols] to where tensor cores want them. `to`:
/// nvfp4_scale_bytes_128x4() bytes, zeroed.
void swizzle_scales(
    cudaStream_t stream, uint8_t* to, const std::byte* from, int64_t rows, int64_t scale_cols);

/// linear() of one matrix: x is quantised with `input_scale`.
struct Fp4Linear {
  float* out = nullptr;      ///< [tokens, rows]
  const float* x = nullptr;  ///< [tokens, cols]
  Fp4Operand w;
  float input_scale = 1.0F;
  float global_scale = 1.0F;
  int32_t rows = 0;
  int32_t cols = 0;
  int32_t tokens = 0;
  std::byte* workspace = nullptr;  ///< fp4_linear_workspace_bytes()
};
void fp4_linear(cudaStream_t stream, const Fp4Linear& args);
int64_t fp4_linear_workspace_bytes(int64_t tokens, int64_t cols);

}  // namespace facet::cuda
