#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

#include "tensor/dtype.h"

namespace facet {

/// The float32 number whose upper half `bits` is; exact.
constexpr float bf16_to_float(uint16_t bits) {
  return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
}
/// Nearest BF16, ties to even; overflow gives infinity, a NaN stays a (quiet) NaN of its sign.
constexpr uint16_t float_to_bf16(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  const bool nan = (bits & 0x7fffffffu) > 0x7f800000u;
  const uint32_t rounded = nan ? bits | 0x00400000u : bits + 0x7fffu + ((bits >> 16) & 1u);
  return static_cast<uint16_t>(rounded >> 16);
}

/// IEEE binary16 to float32; exact, subnormals included.
float f16_to_float(uint16_t bits);
/// Nearest binary16, ties to even; overflow gives infinity, a NaN stays a (quiet) NaN.
uint16_t float_to_f16(float value);

/// E4M3FN of all 256 codes: bias 7, subnormal step 2^-9, largest 448 (0x7e), no infinity, NaN at
/// 0x7f and 0xff.
const std::array<float, 256>& e4m3_table();
/// Nearest E4M3FN, ties to even; beyond 448 (infinities too) it saturates; a NaN gives 0x7f or
/// 0xff. torch: clamp(-448, 448).to(float8_e4m3fn).
uint8_t float_to_e4m3(float value);

/// E2M1 of all 16 codes; bit 3 is the sign, code 8 is -0.
inline constexpr std::array<float, 16> kE2m1Values = {0.0F,  0.5F,  1.0F,  1.5F,  2.0F,  3.0F,
                                                      4.0F,  6.0F,  -0.0F, -0.5F, -1.0F, -1.5F,
                                                      -2.0F, -3.0F, -4.0F, -6.0F};
/// Nearest E2M1 code, ties to the even code (.75, 1.75 and 3.5 go up, .25, 1.25, 2.5 and 5 down);
/// saturates at 6. The sign bit is set if value < 0, so -0 gives code 0. A NaN gives code 0.
uint8_t float_to_e2m1(float value);

/// Element `index` of an array of F32, F16, BF16 or F8_E4M3 (CHECKed), at any alignment.
float read_float(const std::byte* data, DType dtype, int64_t index);

}  // namespace facet
