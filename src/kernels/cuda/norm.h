#pragma once

#include <cstdint>

#include "kernels/cuda/device.h"

namespace facet::cuda {

/// out = x * (mean(x²) + eps)^(-1/2) * weight.  out, x [rows, width], may alias; weight [width] or
/// null.
void rms_norm(cudaStream_t stream,
              float* out,
              const float* x,
              const float* weight,
              int64_t rows,
              int64_t width,
              float eps);
/// x = (x + norm(h) * weight) * factor.  x, h [rows, width]; h stays as it is.
void add_rms_norm(cudaStream_t stream,
                  float* x,
                  const float* h,
                  const float* weight,
                  int64_t rows,
                  int64_t width,
                  float eps,
                  float factor);
/// dense = norm(dense) * dense_weight + norm(sparse) * sparse_weight.  [rows, width].
void join_branches(cudaStream_t stream,
                   float* dense,
                   const float* sparse,
                   const float* dense_weight,
                   const float* sparse_weight,
                   int64_t rows,
                   int64_t width,
                   float eps);

}  // namespace facet::cuda
