#pragma once

#include "kernels/cuda/paged_kv.h"
#include "kernels/cuda/weight_value.cuh"

namespace facet::cuda {

/// Which head row, of all in k and v, holds position `position` of a sequence's head.
__device__ inline int32_t kv_row(const PagedKv& kv,
                                 const int32_t* table,
                                 int32_t head,
                                 int32_t position) {
  const int32_t page = table[position / kv.page_size];
  return (page * kv.kv_heads + head) * kv.page_size + position % kv.page_size;
}
/// The element at which it begins.
__device__ inline int64_t kv_place(const PagedKv& kv,
                                   const int32_t* table,
                                   int32_t head,
                                   int32_t position) {
  return int64_t{kv_row(kv, table, head, position)} * kv.head_dim;
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

/// to_e4m3 where no instruction does it.
__device__ inline uint8_t to_e4m3_by_bits(float value) {
  const uint32_t bits = __float_as_uint(value);
  const uint32_t sign = (bits >> 24) & 0x80u;
  const uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return 0x7fu;
  uint32_t code = ((magnitude + 0x7ffffu + ((magnitude >> 20) & 1u)) >> 20) - (120u << 3);
  if (magnitude >= 0x43e00000u) code = 0x7eu;  // 448
  // Below 2^-6 the step is 2^-9, which is that of floats from 2^14 on: the addition rounds.
  if (magnitude < (121u << 23))
    code = __float_as_uint(__fadd_rn(__uint_as_float(magnitude), 16384.0F)) -
           __float_as_uint(16384.0F);
  return static_cast<uint8_t>(sign | code);
}

/// Nearest, ties to even, saturating at 448; NaN stays NaN. As float_to_e4m3 (quant/float_formats).
__device__ inline uint8_t to_e4m3(float value) {
#if __CUDA_ARCH__ >= 890
  uint16_t pair;
  asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(pair) : "f"(0.0F), "f"(value));
  return static_cast<uint8_t>(pair & 0xffu);
#else
  return to_e4m3_by_bits(value);
#endif
}

template <DType kType>
__device__ void store_kv_value(std::byte* data, int64_t index, float value) {
  if constexpr (kType == DType::kF32) {
    reinterpret_cast<float*>(data)[index] = value;
  } else if constexpr (kType == DType::kBF16) {
    reinterpret_cast<uint16_t*>(data)[index] =
        static_cast<uint16_t>(__float_as_uint(round_to_bf16(value)) >> 16);
  } else {
    reinterpret_cast<uint8_t*>(data)[index] = to_e4m3(value);
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
