#pragma once

#include <cstdint>

#include "kernels/cuda/device.h"

namespace facet::cuda {

/// The residual stream and what is pending (kernels/backend.h, ResidualStream), on the device.
struct ResidualArgs {
  const float* x = nullptr;            ///< [rows, width]
  float* x_out = nullptr;              ///< the same with all added; x itself or apart
  const float* branch = nullptr;       ///< [rows, width]; null: nothing is pending
  const float* sparse = nullptr;       ///< [rows, width]; null: no experts
  const float* branch_norm = nullptr;  ///< [width], as those below
  const float* sparse_norm = nullptr;
  const float* norm = nullptr;
  float factor = 1.0F;
  float eps = 0;
  int32_t width = 0;
};

/// A norm of the settled stream: out = x * inverse * weight.
struct NormOut {
  float* out = nullptr;           ///< [rows, width]; null: none
  const float* weight = nullptr;  ///< [width]
};

/// The widest rows that settle() takes.
inline constexpr int32_t kWidestRow = 512 * 12;

/// x_out = the stream with what is pending added, and up to two norms of it; a block a row, so that
/// x_out may be x.
void settle(cudaStream_t stream,
            const ResidualArgs& args,
            const NormOut& first,
            const NormOut& second,
            int64_t rows);

}  // namespace facet::cuda
