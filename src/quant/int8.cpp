#include "quant/int8.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "quant/float_formats.h"

namespace facet {

void decode_int8_row(const std::byte* codes,
                     const std::byte* scales,
                     DType scale_dtype,
                     int32_t group_size,
                     std::span<float> out) {
  CHECK(group_size > 0, "INT8 groups of {}", group_size);
  const auto size = static_cast<size_t>(group_size);
  for (size_t c = 0; c < out.size(); c += size) {
    const float scale = read_float(scales, scale_dtype, static_cast<int64_t>(c / size));
    for (size_t i = c; i < std::min(c + size, out.size()); ++i) {
      out[i] = static_cast<float>(std::to_integer<int8_t>(codes[i])) * scale;
    }
  }
}

void encode_int8_row(std::span<const float> w,
                     int32_t group_size,
                     std::span<int8_t> codes,
                     std::span<uint16_t> scales) {
  const auto size = static_cast<size_t>(group_size);
  CHECK(group_size > 0 && codes.size() == w.size() && scales.size() == (w.size() + size - 1) / size,
        "INT8 of {} values, {} scales of groups of {}", w.size(), scales.size(), group_size);
  for (size_t g = 0; g < scales.size(); ++g) {
    const size_t end = std::min((g + 1) * size, w.size());
    float amax = 0.0F;
    for (size_t c = g * size; c < end; ++c) amax = std::max(amax, std::fabs(w[c]));
    scales[g] = float_to_bf16(amax / 127.0F);
    const float scale = bf16_to_float(scales[g]);
    const float inverse = scale < kSmallestScale ? 0.0F : 1.0F / scale;
    for (size_t c = g * size; c < end; ++c) {
      const float code = std::nearbyint(w[c] * inverse);
      codes[c] = static_cast<int8_t>(std::clamp(code, -127.0F, 127.0F));
    }
  }
}

}  // namespace facet
