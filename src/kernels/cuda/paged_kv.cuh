#pragma once

#include "kernels/cuda/paged_kv.h"
#include "kernels/cuda/weight_value.cuh"

namespace facet::cuda {

/// The element at which position `position` of a sequence's head begins in k and v.
__device__ inline int64_t kv_place(const PagedKv& kv,
                                   const int32_t* table,
                                   int32_t head,
                                   int32_t position) {
  const int64_t page = table[position / kv.page_size];
  return ((page * kv.kv_heads + head) * kv.page_size + position % kv.page_size) * kv.head_dim;
}

/// The page table of the sequence that a row belongs to.
__device__ inline const int32_t* table_of_row(const PagedKv& kv, int64_t row) {
  return kv.pages + kv.table_begin[kv.sequence_of_row[row]];
}

template <DType kType>
__device__ float kv_value(const std::byte* data, int64_t index) {
  if constexpr (kType == DType::kF32) {
    return reinterpret_cast<const float*>(data)[index];
  } else if constexpr (kType == DType::kBF16) {
    return from_bf16(reinterpret_cast<const uint16_t*>(data)[index]);
  } else {
    return from_e4m3(reinterpret_cast<const uint8_t*>(data)[index]);
  }
}

/// Calls `body` with the cache's dtype as a constant.
template <typename Body>
void with_kv_dtype(DType dtype, const Body& body) {
  switch (dtype) {
    case DType::kF32:
      return body.template operator()<DType::kF32>();
    case DType::kBF16:
      return body.template operator()<DType::kBF16>();
    default:
      return body.template operator()<DType::kF8E4M3>();
  }
}

}  // namespace facet::cuda
