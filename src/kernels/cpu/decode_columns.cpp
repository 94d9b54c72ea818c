#include "kernels/cpu/decode_columns.h"

#include "quant/float_formats.h"
#include "quant/fp8.h"

namespace facet::cpu {
namespace {

DType plain_dtype(WeightFormat format) {
  if (format == WeightFormat::kF32) return DType::kF32;
  return format == WeightFormat::kF16 ? DType::kF16 : DType::kBF16;
}

uint32_t nibble(const std::byte* codes, int64_t index) {
  const auto pair = std::to_integer<uint32_t>(codes[index / 2]);
  return index % 2 == 0 ? pair & 15u : pair >> 4;
}

float scale_of(const WeightMatrix& w, int64_t row, int64_t column) {
  switch (w.format) {
    case WeightFormat::kFp8:
      return read_float(w.scales, w.scale_dtype, w.scale_rows == 1 ? 0 : row);
    case WeightFormat::kFp8Block:
      return read_float(w.scales, w.scale_dtype,
                        row / kFp8Block * scale_cols(w) + column / kFp8Block);
    default:
      return read_float(w.scales, w.scale_dtype, row * scale_cols(w) + column / w.group_size);
  }
}

}  // namespace

void decode_columns(const WeightMatrix& w, int64_t row, int64_t begin, int64_t count, float* out) {
  const std::byte* codes = w.data + row * row_bytes(w);
  for (int64_t i = 0; i < count; ++i) {
    const int64_t c = begin + i;
    switch (w.format) {
      case WeightFormat::kF32:
      case WeightFormat::kF16:
      case WeightFormat::kBF16:
        out[i] = read_float(codes, plain_dtype(w.format), c);
        break;
      case WeightFormat::kFp8:
      case WeightFormat::kFp8Block:
        out[i] = read_float(codes, DType::kF8E4M3, c) * scale_of(w, row, c);
        break;
      case WeightFormat::kNvfp4:
        out[i] = kE2m1Values[nibble(codes, c)] * scale_of(w, row, c) * w.global_scale;
        break;
      case WeightFormat::kInt8Group:
        out[i] = static_cast<float>(std::to_integer<int8_t>(codes[c])) * scale_of(w, row, c);
        break;
      case WeightFormat::kInt4Group:
        out[i] =
            static_cast<float>(static_cast<int32_t>(nibble(codes, c)) - 8) * scale_of(w, row, c);
        break;
    }
  }
}

}  // namespace facet::cpu
