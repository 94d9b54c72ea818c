#pragma once

#include <cstdint>

#include "kernels/cuda/paged_kv.h"

namespace facet::cuda {

struct AttentionArgs {
  float* out = nullptr;      // [rows, q_heads, head_dim]
  const float* q = nullptr;  // [rows, q_heads, head_dim]
  PagedKv kv;
  int32_t q_heads = 0;
  int32_t window = 0;  // 0: none
  int64_t rows = 0;
};

/// Backend::attention in float32 for heads of up to kMostHeadDim values and any cache dtype: one
/// block for each row and head, for the cases that attention_tiles does not take.
inline constexpr int32_t kMostHeadDim = 512;
void attention_simple(cudaStream_t stream, const AttentionArgs& args);

}  // namespace facet::cuda
