#pragma once

#include <cstdint>

#include "kernels/cuda/device.h"
#include "quant/weight_matrix.h"

namespace facet::cuda {

/// out = x · wᵀ, x rounded to BF16, the weights exact, float32 sums. Any format.  out [rows,
/// w.rows], x [rows, w.cols].
void linear_simple(
    cudaStream_t stream, float* out, const float* x, const WeightMatrix& w, int64_t rows);

}  // namespace facet::cuda
