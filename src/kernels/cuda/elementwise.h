#pragma once

#include <cstdint>

#include "kernels/activation.h"
#include "kernels/cuda/device.h"
#include "quant/weight_matrix.h"

namespace facet::cuda {

/// out[t] = table[ids[t]] * scale.  out [rows, table.cols]; table F32, F16 or BF16; ids [rows].
void embed(cudaStream_t stream,
           float* out,
           const WeightMatrix& table,
           const int32_t* ids,
           int64_t rows,
           float scale);
/// Backend::activate over `count` values; gate is null if it is plain.
void activate(cudaStream_t stream,
              float* out,
              const float* gate,
              const float* up,
              int64_t count,
              ActivationFunction function);
/// x += y.
void add(cudaStream_t stream, float* x, const float* y, int64_t count);
/// x *= factor.
void scale(cudaStream_t stream, float* x, int64_t count, float factor);
/// x = cap * tanh(x / cap).
void soft_cap(cudaStream_t stream, float* x, int64_t count, float cap);
/// out[i] = x[rows[i]].  out [count, width].
void gather_rows(cudaStream_t stream,
                 float* out,
                 const float* x,
                 const int32_t* rows,
                 int64_t count,
                 int64_t width);
/// Backend::rope.  x [rows, heads, head_dim]; positions [rows]; frequencies [angles].
void rope(cudaStream_t stream,
          float* x,
          const int32_t* positions,
          const float* frequencies,
          int64_t rows,
          int64_t heads,
          int32_t head_dim,
          int32_t angles);

}  // namespace facet::cuda
