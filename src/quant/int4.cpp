#include "quant/int4.h"

#include "base/check.h"
#include "quant/float_formats.h"

namespace facet {

void decode_int4_row(const std::byte* codes,
                     const std::byte* scales,
                     DType scale_dtype,
                     int32_t group_size,
                     std::span<float> out) {
  CHECK(group_size > 0 && group_size % kInt4PerWord == 0, "an INT4 group of {}", group_size);
  const auto group = static_cast<size_t>(group_size);
  CHECK(out.size() % group == 0, "an INT4 row of {} columns in groups of {}", out.size(), group);
  for (size_t c = 0; c < out.size(); c += group) {
    const float scale = read_float(scales, scale_dtype, static_cast<int64_t>(c / group));
    // Little-endian words make nibble j of word w simply half j % 2 of byte 4 * w + j / 2.
    for (size_t i = c; i < c + group; i += 2) {
      const auto pair = std::to_integer<int32_t>(codes[i / 2]);
      out[i] = static_cast<float>((pair & 15) - 8) * scale;
      out[i + 1] = static_cast<float>((pair >> 4) - 8) * scale;
    }
  }
}

}  // namespace facet
