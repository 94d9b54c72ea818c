#include "quant/fp8.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "base/error.h"
#include "quant/float_formats.h"

namespace facet {

void decode_fp8_row(const std::byte* values, float scale, std::span<float> out) {
  const std::array<float, 256>& e4m3 = e4m3_table();
  for (size_t c = 0; c < out.size(); ++c) {
    out[c] = e4m3[std::to_integer<uint8_t>(values[c])] * scale;
  }
}

void decode_fp8_block_row(const std::byte* values,
                          const std::byte* scales,
                          DType scale_dtype,
                          std::span<float> out) {
  for (size_t c = 0; c < out.size(); c += kFp8Block) {
    const size_t count = std::min<size_t>(kFp8Block, out.size() - c);
    const float scale = read_float(scales, scale_dtype, static_cast<int64_t>(c / kFp8Block));
    decode_fp8_row(values + c, scale, out.subspan(c, count));
  }
}

Fp8Matrix quantize_fp8_channel(std::span<const float> w, int64_t rows, int64_t cols) {
  CHECK(rows >= 0 && cols >= 0 && static_cast<int64_t>(w.size()) == rows * cols,
        "FP8 of {} values as [{}, {}]", w.size(), rows, cols);
  Fp8Matrix result;
  result.values.reserve(w.size());
  result.scales.reserve(static_cast<size_t>(rows));
  for (int64_t r = 0; r < rows; ++r) {
    const auto row = w.subspan(static_cast<size_t>(r * cols), static_cast<size_t>(cols));
    float amax = 0.0F;
    for (const float value : row) {
      if (!std::isfinite(value)) {
        throw Error(ErrorCode::kBadInput, fmt::format("FP8 cannot store the weight {}", value));
      }
      amax = std::max(amax, std::fabs(value));
    }
    result.scales.push_back(float_to_bf16(std::max(amax / 448.0F, 1e-12F)));
    const float scale = bf16_to_float(result.scales.back());
    for (const float value : row) result.values.push_back(float_to_e4m3(value / scale));
  }
  return result;
}

}  // namespace facet
