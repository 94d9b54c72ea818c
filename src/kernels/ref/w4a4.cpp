#include "kernels/ref/w4a4.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "kernels/ref/operand.h"
#include "quant/float_formats.h"
#include "quant/nvfp4.h"

namespace facet::ref {
namespace {

constexpr auto kBlock = static_cast<size_t>(kNvfp4Block);
constexpr float kLargestCode = 6.0F;

/// Sum of the products of 16 codes: a multiple of 1/4 of at most 576, exact in any float.
double block_product(const uint8_t* a, const std::byte* packed) {
  double sum = 0;
  for (size_t i = 0; i < kBlock; ++i) {
    const auto byte = static_cast<uint8_t>(packed[i / 2]);
    const auto code = static_cast<size_t>((byte >> (i % 2 * 4)) & 15);
    sum += static_cast<double>(kE2m1Values[a[i]]) * static_cast<double>(kE2m1Values[code]);
  }
  return sum;
}

}  // namespace

Fp4Row quantize_fp4_row(std::span<const float> x, float input_scale) {
  CHECK(x.size() % kBlock == 0 && input_scale > 0.0F, "{} activations, input scale {}", x.size(),
        input_scale);
  const float gain = 1.0F / input_scale;
  Fp4Row row;
  for (size_t begin = 0; begin < x.size(); begin += kBlock) {
    const std::span<const float> block = x.subspan(begin, kBlock);
    float amax = 0.0F;
    for (const float value : block) amax = std::max(amax, std::fabs(value));
    const uint8_t scale = float_to_e4m3(gain * amax / kLargestCode);
    const float value_of_scale = e4m3_table()[scale];
    const float factor = value_of_scale == 0.0F ? 0.0F : gain / value_of_scale;
    row.scales.push_back(scale);
    for (const float value : block) row.codes.push_back(float_to_e2m1(value * factor));
  }
  return row;
}

void linear_w4a4(TensorView out, TensorView x, const WeightMatrix& w) {
  CHECK(w.format == WeightFormat::kNvfp4 && w.input_scale > 0.0F, "W4A4 with {}, input scale {}",
        to_string(w.format), w.input_scale);
  const int64_t rows = x.rows();
  const float* from = values(x, {rows, w.cols}, "x");
  float* to = values(out, {rows, w.rows}, "out");
  const auto blocks = static_cast<size_t>(w.cols / kNvfp4Block);
  const double alpha = static_cast<double>(w.input_scale * w.global_scale);
  for (int64_t t = 0; t < rows; ++t) {
    const Fp4Row a =
        quantize_fp4_row({from + t * w.cols, static_cast<size_t>(w.cols)}, w.input_scale);
    for (int64_t r = 0; r < w.rows; ++r) {
      const std::byte* codes = w.data + r * row_bytes(w);
      const std::byte* scales = w.scales + r * scale_cols(w);
      double sum = 0;
      for (size_t b = 0; b < blocks; ++b) {
        const double scale = static_cast<double>(e4m3_table()[a.scales[b]]) *
                             static_cast<double>(e4m3_table()[static_cast<uint8_t>(scales[b])]);
        sum += scale * block_product(a.codes.data() + b * kBlock, codes + b * kBlock / 2);
      }
      to[t * w.rows + r] = static_cast<float>(sum * alpha);
    }
  }
}

}  // namespace facet::ref
