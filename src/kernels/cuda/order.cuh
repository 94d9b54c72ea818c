#pragma once

// Floats in their order, as integers.

#include <cstdint>

namespace facet::cuda {

/// The larger the float, the larger: of any but NaN. Zeros are equal.
__device__ inline uint32_t order_of(float value) {
  const uint32_t bits = __float_as_uint(value + 0.0F);
  return (bits >> 31U) != 0 ? ~bits : bits | 0x80000000U;
}
/// The float that order_of() gave this for.
__device__ inline float float_of_order(uint32_t order) {
  return __uint_as_float((order >> 31U) != 0 ? order & 0x7fffffffU : ~order);
}

}  // namespace facet::cuda
