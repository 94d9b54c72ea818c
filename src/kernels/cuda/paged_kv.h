#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/device.h"
#include "tensor/dtype.h"

namespace facet::cuda {

/// The cache of one layer and where a step's rows stand in it: KvView and Batch with device
/// pointers.
struct PagedKv {
  std::byte* k = nullptr;
  std::byte* v = nullptr;
  DType dtype = DType::kBF16;  // kF32, kBF16 or kF8E4M3
  float k_scale = 1.0F;
  float v_scale = 1.0F;
  int32_t kv_heads = 0;
  int32_t head_dim = 0;
  int32_t page_size = 0;
  const int32_t* positions = nullptr;        // [rows]
  const int32_t* sequence_of_row = nullptr;  // [rows]
  const int32_t* table_begin = nullptr;      // [S]: where a sequence's page table begins in `pages`
  const int32_t* pages = nullptr;
};

/// Backend::store_kv.  k, v [rows, kv_heads, head_dim].
void store_kv(cudaStream_t stream, const PagedKv& kv, const float* k, const float* v, int64_t rows);

}  // namespace facet::cuda
