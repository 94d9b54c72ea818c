#include "quant/nvfp4.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "base/error.h"
#include "quant/float_formats.h"

namespace facet {
namespace {

constexpr float kE2m1Max = 6.0F;
constexpr float kE4m3Max = 448.0F;
constexpr float kMinScale = 0x1p-9F;

float max_magnitude(std::span<const float> values) {
  float result = 0.0F;
  for (const float value : values) result = std::max(result, std::fabs(value));
  return result;
}

float default_global_scale(std::span<const float> w) {
  const double wide = static_cast<double>(max_magnitude(w)) / (kE2m1Max * kE4m3Max);
  const auto scale = static_cast<float>(wide);
  return scale == 0.0F ? 1.0F : scale;  // nothing but zeros, or too small for any float32 scale
}

}  // namespace

void decode_nvfp4_row(const std::byte* codes,
                      const std::byte* scales,
                      float global_scale,
                      std::span<float> out) {
  CHECK(out.size() % kNvfp4Block == 0, "an NVFP4 row of {} columns", out.size());
  const std::array<float, 256>& e4m3 = e4m3_table();
  for (size_t c = 0; c < out.size(); c += kNvfp4Block) {
    const float step = e4m3[std::to_integer<uint8_t>(scales[c / kNvfp4Block])];
    for (size_t i = c; i < c + kNvfp4Block; i += 2) {
      const auto pair = std::to_integer<uint32_t>(codes[i / 2]);
      out[i] = kE2m1Values[pair & 15u] * step * global_scale;
      out[i + 1] = kE2m1Values[pair >> 4] * step * global_scale;
    }
  }
}

Nvfp4Matrix quantize_nvfp4(std::span<const float> w,
                           int64_t rows,
                           int64_t cols,
                           std::optional<float> global_scale) {
  CHECK(rows >= 0 && cols >= 0 && cols % kNvfp4Block == 0 &&
            static_cast<int64_t>(w.size()) == rows * cols,
        "NVFP4 of {} values as [{}, {}]", w.size(), rows, cols);
  for (const float value : w) {
    if (!std::isfinite(value)) {
      throw Error(ErrorCode::kBadInput, fmt::format("NVFP4 cannot store the weight {}", value));
    }
  }
  Nvfp4Matrix result;
  result.global_scale = global_scale.value_or(default_global_scale(w));
  result.codes.resize(w.size() / 2);
  result.scales.resize(w.size() / kNvfp4Block);
  for (size_t b = 0; b < result.scales.size(); ++b) {
    const std::span<const float> block = w.subspan(b * kNvfp4Block, kNvfp4Block);
    result.scales[b] = nvfp4_rule_scale(max_magnitude(block), result.global_scale);
    const float step = e4m3_table()[result.scales[b]] * result.global_scale;
    for (size_t i = 0; i < kNvfp4Block; i += 2) {
      const int low = float_to_e2m1(block[i] / step);
      const int high = float_to_e2m1(block[i + 1] / step);
      result.codes[(b * kNvfp4Block + i) / 2] = static_cast<uint8_t>(low | (high << 4));
    }
  }
  return result;
}

float nvfp4_global_scale(float amax) { return std::max(amax / (kE2m1Max * kE4m3Max), 0x1p-100F); }

void encode_nvfp4_row(std::span<const float> w,
                      float global_scale,
                      std::span<uint8_t> codes,
                      std::span<uint8_t> scales) {
  CHECK(w.size() % kNvfp4Block == 0 && codes.size() == w.size() / 2 &&
            scales.size() == w.size() / kNvfp4Block,
        "NVFP4 of {} values into {} codes and {} scales", w.size(), codes.size(), scales.size());
  const auto code_of = [](float value, float inverse) {
    const uint8_t code = float_to_e2m1(std::fabs(value) * inverse);
    return static_cast<uint8_t>(value < 0.0F ? code | 8 : code);
  };
  for (size_t b = 0; b < scales.size(); ++b) {
    const std::span<const float> block = w.subspan(b * kNvfp4Block, kNvfp4Block);
    const int32_t rule = nvfp4_rule_scale(max_magnitude(block), global_scale);
    float least = 0.0F;
    for (const int32_t distance : kNvfp4Candidates) {
      const auto scale = static_cast<uint8_t>(std::clamp(rule + distance, 1, 0x7e));
      const float step = e4m3_table()[scale] * global_scale;
      const float inverse = 1.0F / step;
      float sum = 0.0F;
      for (const float value : block) {
        const float difference =
            std::fabs(value) - kE2m1Values[code_of(std::fabs(value), inverse)] * step;
        sum += difference * difference;
      }
      if (distance != 0 && !(sum < least)) continue;
      least = sum;
      scales[b] = scale;
    }
    const float inverse = 1.0F / (e4m3_table()[scales[b]] * global_scale);
    for (size_t i = 0; i < kNvfp4Block; i += 2) {
      const int pair = code_of(block[i], inverse) | (code_of(block[i + 1], inverse) << 4);
      codes[(b * kNvfp4Block + i) / 2] = static_cast<uint8_t>(pair);
    }
  }
}

uint8_t nvfp4_rule_scale(float block_amax, float global_scale) {
  return float_to_e4m3(std::max(block_amax / kE2m1Max / global_scale, kMinScale));
}

void quantize_activation_nvfp4(std::span<const float> x, float input_scale, std::span<float> out) {
  CHECK(x.size() == out.size() && x.size() % kNvfp4Block == 0 && input_scale > 0.0F,
        "activations of {} and {} values, input scale {}", x.size(), out.size(), input_scale);
  const float gain = 1.0F / input_scale;
  for (size_t c = 0; c < x.size(); c += kNvfp4Block) {
    const float amax = max_magnitude(x.subspan(c, kNvfp4Block));
    const float scale = e4m3_table()[float_to_e4m3(gain * amax / kE2m1Max)];
    // A block too small for its scale would need the factor infinity, which 0 does not survive.
    const float factor = scale == 0.0F ? 0.0F : gain / scale;
    const float step = scale * input_scale;
    for (size_t i = c; i < c + kNvfp4Block; ++i) {
      out[i] = kE2m1Values[float_to_e2m1(x[i] * factor)] * step;
    }
  }
}

int64_t nvfp4_scale_offset_128x4(int64_t row, int64_t scale_col, int64_t scale_cols) {
  const int64_t tiles = (scale_cols + 3) / 4;
  const int64_t tile = row / 128 * tiles + scale_col / 4;
  return tile * 512 + row % 32 * 16 + row % 128 / 32 * 4 + scale_col % 4;
}

int64_t nvfp4_scale_bytes_128x4(int64_t rows, int64_t scale_cols) {
  return (rows + 127) / 128 * ((scale_cols + 3) / 4) * 512;
}

}  // namespace facet
