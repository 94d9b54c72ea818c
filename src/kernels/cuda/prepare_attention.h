#pragma once

#include <cstdint>

#include "kernels/cuda/launch.h"
#include "kernels/cuda/paged_kv.h"

namespace facet::cuda {

struct PrepareArgs {
  float* q = nullptr;                  // [rows, q_heads, head_dim]
  const float* k = nullptr;            // [rows, kv_heads, head_dim], or null: nothing is stored
  const float* v = nullptr;            // the same; may be k
  const float* q_norm = nullptr;       // [head_dim]
  const float* k_norm = nullptr;       // [head_dim]
  const float* frequencies = nullptr;  // [angles]
  PagedKv kv;
  int32_t angles = 0;
  int32_t q_heads = 0;
  int64_t first_row = 0;  // of the step, of which the arrays are
  int64_t rows = 0;
  float eps = 0;
  Overlap overlap = Overlap::kNo;
};

/// Head sizes that prepare_attention() takes.
bool prepare_fits(int32_t head_dim);

/// Backend::prepare_attention in one launch, a warp for each head of q, k and v; k and v are left
/// as they are.
void prepare_attention(cudaStream_t stream, const PrepareArgs& args);

}  // namespace facet::cuda
