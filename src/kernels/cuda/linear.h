#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/launch.h"
#include "kernels/product_form.h"
#include "quant/weight_matrix.h"

namespace facet::cuda {

/// One matrix on the device, its pointers included.
struct LinearWeights {
  WeightMatrix matrix;
  /// NVFP4 in the form of quant/nvfp4_tiles.h (repack.h makes it), read instead of matrix.data and
  /// matrix.scales, which may then be gone; null: there is none, and NVFP4 takes the plain kernel.
  const std::byte* tiles = nullptr;
};

/// Bytes of workspace that linear() wants for up to `rows` tokens of `cols` values.
int64_t linear_workspace_bytes(int64_t rows, int64_t cols);

struct LinearArgs {
  float* out = nullptr;      ///< [rows, w.rows]
  const float* x = nullptr;  ///< [rows, w.cols]
  LinearWeights w;
  int64_t rows = 0;
  std::byte* workspace = nullptr;  ///< linear_workspace_bytes(rows, w.cols), 256-aligned
  Overlap overlap = Overlap::kNo;
  ProductForm form = ProductForm::kByTokens;
};

/// out = x · wᵀ: x rounded to BF16, the weights exact, sums in float32 and a fixed order. What a
/// row gets depends, bit for bit, on its own x alone, for any number of rows: tensor cores multiply
/// in the same order in all kernels, and partial sums over kChunks parts of K are joined in order.
///
/// Fast for BF16 (cols a multiple of 8), FP8 with a scale per row or one (16) and NVFP4 in tiles;
/// linear_simple() has all others. Up to kStreamRows tokens: bound by the bytes of w, streamed once
/// through rings of shared memory. More: tiles of rows x tokens; by bytes up to some 100 tokens, by
/// the tensor cores beyond.
/// `form` may ask for one of these for any number of tokens.
void linear(cudaStream_t stream, const LinearArgs& args);

/// Tokens that share one pass of the streaming kernels.
inline constexpr int64_t kStreamRows = 16;

}  // namespace facet::cuda
