#pragma once

// One value of a stored matrix, as dequantize_row (quant/weight_matrix.h) gives it: the same
// float32 products in the same order.

#include <cstdint>

#include "quant/weight_matrix.h"

namespace facet::cuda {

__device__ inline float from_bf16(uint16_t bits) {
  return __uint_as_float(static_cast<uint32_t>(bits) << 16);
}

/// The nearest BF16, ties to even, as a float; NaN stays NaN.
__device__ inline float round_to_bf16(float value) {
  const uint32_t bits = __float_as_uint(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return value;
  return __uint_as_float((bits + 0x7fffu + ((bits >> 16) & 1u)) & 0xffff0000u);
}

__device__ inline float from_f16(uint16_t bits) {
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
  return value;
}

/// Exponent and mantissa moved to a float's: the value times 2^-120, subnormals included.
__device__ inline float from_e4m3(uint8_t code) {
  const uint32_t magnitude = code & 0x7fu;
  const uint32_t sign = static_cast<uint32_t>(code & 0x80u) << 24;
  if (magnitude == 0x7fu) return __uint_as_float(sign | 0x7fc00000u);
  return __uint_as_float(sign | (magnitude << 20)) * 0x1p120F;
}

/// The same for E2M1: 2^-126 times the value.
__device__ inline float from_e2m1(uint32_t code) {
  return __uint_as_float(((code & 8u) << 28) | ((code & 7u) << 22)) * 0x1p126F;
}

__device__ inline float scale_at(const WeightMatrix& w, int64_t index) {
  switch (w.scale_dtype) {
    case DType::kF32:
      return reinterpret_cast<const float*>(w.scales)[index];
    case DType::kF16:
      return from_f16(reinterpret_cast<const uint16_t*>(w.scales)[index]);
    case DType::kBF16:
      return from_bf16(reinterpret_cast<const uint16_t*>(w.scales)[index]);
    default:
      return from_e4m3(reinterpret_cast<const uint8_t*>(w.scales)[index]);
  }
}

/// w[row, col] of a matrix in format kFormat.
template <WeightFormat kFormat>
__device__ float weight_value(const WeightMatrix& w, int64_t row, int64_t col) {
  const int64_t at = row * w.cols + col;
  const auto* bytes = reinterpret_cast<const uint8_t*>(w.data);
  if constexpr (kFormat == WeightFormat::kF32) {
    return reinterpret_cast<const float*>(w.data)[at];
  } else if constexpr (kFormat == WeightFormat::kF16) {
    return from_f16(reinterpret_cast<const uint16_t*>(w.data)[at]);
  } else if constexpr (kFormat == WeightFormat::kBF16) {
    return from_bf16(reinterpret_cast<const uint16_t*>(w.data)[at]);
  } else if constexpr (kFormat == WeightFormat::kFp8) {
    return from_e4m3(bytes[at]) * scale_at(w, w.scale_rows == 1 ? 0 : row);
  } else if constexpr (kFormat == WeightFormat::kFp8Block) {
    const int64_t blocks = (w.cols + 127) / 128;
    return from_e4m3(bytes[at]) * scale_at(w, row / 128 * blocks + col / 128);
  } else if constexpr (kFormat == WeightFormat::kNvfp4) {
    const float scale = from_e4m3(reinterpret_cast<const uint8_t*>(w.scales)[at / 16]);
    return from_e2m1((bytes[at / 2] >> (at % 2 * 4)) & 15u) * scale * w.global_scale;
  } else if constexpr (kFormat == WeightFormat::kInt4Group) {
    const int code = (bytes[at / 2] >> (at % 2 * 4)) & 15;
    return static_cast<float>(code - 8) *
           scale_at(w, row * (w.cols / w.group_size) + col / w.group_size);
  } else {
    const int64_t groups = (w.cols + w.group_size - 1) / w.group_size;
    return static_cast<float>(static_cast<int8_t>(bytes[at])) *
           scale_at(w, row * groups + col / w.group_size);
  }
}

/// Calls `body` with the format as a constant: body(std::integral_constant<WeightFormat, …>).
template <typename Body>
auto with_format(WeightFormat format, const Body& body) {
  switch (format) {
    case WeightFormat::kF32:
      return body.template operator()<WeightFormat::kF32>();
    case WeightFormat::kF16:
      return body.template operator()<WeightFormat::kF16>();
    case WeightFormat::kBF16:
      return body.template operator()<WeightFormat::kBF16>();
    case WeightFormat::kFp8:
      return body.template operator()<WeightFormat::kFp8>();
    case WeightFormat::kFp8Block:
      return body.template operator()<WeightFormat::kFp8Block>();
    case WeightFormat::kNvfp4:
      return body.template operator()<WeightFormat::kNvfp4>();
    case WeightFormat::kInt4Group:
      return body.template operator()<WeightFormat::kInt4Group>();
    case WeightFormat::kInt8Group:
      break;
  }
  return body.template operator()<WeightFormat::kInt8Group>();
}

/// The same on the device, where experts of one layer may differ in format.
__device__ inline float any_weight_value(const WeightMatrix& w, int64_t row, int64_t col) {
  switch (w.format) {
    case WeightFormat::kF32:
      return weight_value<WeightFormat::kF32>(w, row, col);
    case WeightFormat::kF16:
      return weight_value<WeightFormat::kF16>(w, row, col);
    case WeightFormat::kBF16:
      return weight_value<WeightFormat::kBF16>(w, row, col);
    case WeightFormat::kFp8:
      return weight_value<WeightFormat::kFp8>(w, row, col);
    case WeightFormat::kFp8Block:
      return weight_value<WeightFormat::kFp8Block>(w, row, col);
    case WeightFormat::kNvfp4:
      return weight_value<WeightFormat::kNvfp4>(w, row, col);
    case WeightFormat::kInt4Group:
      return weight_value<WeightFormat::kInt4Group>(w, row, col);
    case WeightFormat::kInt8Group:
      break;
  }
  return weight_value<WeightFormat::kInt8Group>(w, row, col);
}

}  // namespace facet::cuda
