#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "tensor/dtype.h"

namespace facet {

/// Codes in one stored word; a group is a multiple of it.
inline constexpr int32_t kInt4PerWord = 8;

/// out[c] = (code[c] - 8) * scales[c / group_size], in float32. codes: [out.size() / 8]
/// little-endian 32-bit words, nibble j of word w is column 8 * w + j; scales: [out.size() /
/// group_size] of F32, F16 or BF16. group_size is a multiple of 8 that divides out.size()
/// (CHECKed).
void decode_int4_row(const std::byte* codes,
                     const std::byte* scales,
                     DType scale_dtype,
                     int32_t group_size,
                     std::span<float> out);

}  // namespace facet
