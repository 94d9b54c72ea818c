#pragma once

#include "kernels/cuda/bands.h"
#include "kernels/cuda/weight_value.cuh"

namespace facet::cuda {

__device__ __forceinline__ float apply_scale(const OutScale& scale, float sum, int row) {
  const float value = __fmul_rn(sum, scale.factor);
  if (scale.count == 0) return value;
  const int64_t at = scale.count == 1 ? 0 : row;
  if (scale.dtype == DType::kF32)
    return __fmul_rn(value, reinterpret_cast<const float*>(scale.scales)[at]);
  const uint16_t bits = reinterpret_cast<const uint16_t*>(scale.scales)[at];
  return __fmul_rn(value, scale.dtype == DType::kBF16 ? from_bf16(bits) : from_f16(bits));
}

}  // namespace facet::cuda
