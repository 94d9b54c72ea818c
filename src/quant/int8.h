#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "tensor/dtype.h"

namespace facet {

/// out[c] = code[c] * scales[c / group_size], in float32. codes: signed bytes [out.size()]; scales:
/// [ceil(out.size() / group_size)] of F32, F16 or BF16. group_size > 0 (CHECKed).
void decode_int8_row(const std::byte* codes,
                     const std::byte* scales,
                     DType scale_dtype,
                     int32_t group_size,
                     std::span<float> out);

/// Scales below count as 0 where they divide: their inverse is no number.
inline constexpr float kSmallestScale = 0x1p-126F;

/// Quantises one row: scale = BF16 of amax(|group|) / 127, code = nearest integer of w / scale,
/// held within -127 … 127; a group of zeros has scale 0 and codes 0. w: [cols], finite; codes:
/// [cols]; scales: BF16 [ceil(cols / group_size)].
void encode_int8_row(std::span<const float> w,
                     int32_t group_size,
                     std::span<int8_t> codes,
                     std::span<uint16_t> scales);

}  // namespace facet
