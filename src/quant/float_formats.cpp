#include "quant/float_formats.h"

#include <cmath>
#include <cstring>
#include <limits>

#include "base/check.h"

namespace facet {
namespace {

constexpr float decode_e4m3(uint32_t code) {
  if ((code & 0x7fu) == 0x7fu) return std::numeric_limits<float>::quiet_NaN();
  const uint32_t exponent = (code >> 3) & 15u;
  const uint32_t mantissa = code & 7u;
  const uint32_t significand = exponent == 0 ? mantissa : 8u + mantissa;
  const uint32_t doublings = exponent == 0 ? 0 : exponent - 1;  // of the subnormal step 2^-9
  const float magnitude = static_cast<float>(significand << doublings) / 512.0F;
  return (code & 0x80u) != 0 ? -magnitude : magnitude;
}

constexpr std::array<float, 256> make_e4m3_table() {
  std::array<float, 256> table{};
  for (uint32_t code = 0; code < 256; ++code) table[code] = decode_e4m3(code);
  return table;
}

constexpr std::array<float, 256> kE4m3Table = make_e4m3_table();

template <typename T>
T read_as(const std::byte* data, int64_t index) {
  T value;
  std::memcpy(&value, data + index * static_cast<int64_t>(sizeof(T)), sizeof(T));
  return value;
}

}  // namespace

float f16_to_float(uint16_t bits) {
  const uint32_t sign = (bits & 0x8000u) << 16;
  const uint32_t exponent = (bits >> 10) & 31u;
  const uint32_t mantissa = bits & 0x3ffu;
  if (exponent == 0) {
    const float magnitude = static_cast<float>(mantissa) * 0x1p-24F;
    return sign != 0 ? -magnitude : magnitude;
  }
  const uint32_t wide = exponent == 31 ? 255 : exponent + 112;  // bias 15 to bias 127
  return std::bit_cast<float>(sign | (wide << 23) | (mantissa << 13));
}

uint16_t float_to_f16(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  const uint32_t sign = (bits >> 16) & 0x8000u;
  const uint32_t magnitude = bits & 0x7fffffffu;
  uint32_t half = 0;
  if (magnitude > 0x7f800000u) {
    half = 0x7e00u | ((magnitude >> 13) & 0x3ffu);
  } else if (std::bit_cast<float>(magnitude) >= 65520.0F) {
    half = 0x7c00u;
  } else if (magnitude < (113u << 23)) {
    // Below 2^-14 the step is 2^-24, which is that of floats from 0.5 on: the addition rounds.
    half = std::bit_cast<uint32_t>(std::bit_cast<float>(magnitude) + 0.5F) -
           std::bit_cast<uint32_t>(0.5F);
  } else {
    half = ((magnitude + 0xfffu + ((magnitude >> 13) & 1u)) >> 13) - (112u << 10);
  }
  return static_cast<uint16_t>(sign | half);
}

const std::array<float, 256>& e4m3_table() { return kE4m3Table; }

uint8_t float_to_e4m3(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  const uint32_t sign = (bits >> 24) & 0x80u;
  const uint32_t magnitude = bits & 0x7fffffffu;
  uint32_t code = 0;
  if (magnitude > 0x7f800000u) {
    code = 0x7fu;
  } else if (std::bit_cast<float>(magnitude) >= 448.0F) {
    code = 0x7eu;
  } else if (magnitude < (121u << 23)) {
    // Below 2^-6 the step is 2^-9, which is that of floats from 2^14 on: the addition rounds.
    code = std::bit_cast<uint32_t>(std::bit_cast<float>(magnitude) + 16384.0F) -
           std::bit_cast<uint32_t>(16384.0F);
  } else {
    code = ((magnitude + 0x7ffffu + ((magnitude >> 20) & 1u)) >> 20) - (120u << 3);
  }
  return static_cast<uint8_t>(sign | code);
}

uint8_t float_to_e2m1(float value) {
  const float magnitude = std::fabs(value);
  // Midpoints between neighbours: a tie goes to the even code.
  const int code = (magnitude > 0.25F) + (magnitude >= 0.75F) + (magnitude > 1.25F) +
                   (magnitude >= 1.75F) + (magnitude > 2.5F) + (magnitude >= 3.5F) +
                   (magnitude > 5.0F);
  return static_cast<uint8_t>(value < 0.0F ? code | 8 : code);
}

float read_float(const std::byte* data, DType dtype, int64_t index) {
  switch (dtype) {
    case DType::kF32:
      return read_as<float>(data, index);
    case DType::kF16:
      return f16_to_float(read_as<uint16_t>(data, index));
    case DType::kBF16:
      return bf16_to_float(read_as<uint16_t>(data, index));
    case DType::kF8E4M3:
      return kE4m3Table[read_as<uint8_t>(data, index)];
    default:
      CHECK(false, "{} is no float format of weights", to_string(dtype));
  }
}

}  // namespace facet
