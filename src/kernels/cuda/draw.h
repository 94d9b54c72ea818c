#pragma once

#include "kernels/cuda/top_logits.h"
#include "kernels/draw_spec.h"

namespace facet::cuda {

/// out[r] = the token of row r that specs[r] draws from what select_top() found of it, or -1: that
/// is for the host to draw (top_k is 0 or more than was found, too many logits are equal, one is no
/// finite number). Bound by its launch.
void draw(
    cudaStream_t stream, int32_t* out, const TopRow* found, const DrawSpec* specs, int64_t rows);

}  // namespace facet::cuda
