#pragma once

#include <cstdint>

#include "quant/weight_matrix.h"

namespace facet::cpu {

/// out[i] = w[row, begin + i], i < count: what dequantize_row gives, for some columns. For the ends
/// of rows that do not fill a vector, and for layouts that the vector decoders leave out.
void decode_columns(const WeightMatrix& w, int64_t row, int64_t begin, int64_t count, float* out);

}  // namespace facet::cpu
