#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "kernels/cpu/cpu_backend.h"
#include "quant/float_formats.h"
#include "quant/weight_matrix.h"

namespace facet::cpu::test {

/// A layout of a weight matrix, as tests name it.
struct MatrixKind {
  const char* name;
  WeightFormat format;
  DType scale_dtype = DType::kF32;
  int32_t group = 0;
  bool one_scale = false;
};

inline const std::vector<MatrixKind>& matrix_kinds() {
  using enum WeightFormat;
  static const std::vector<MatrixKind> kinds = {
      {"f32", kF32},
      {"f16", kF16},
      {"bf16", kBF16},
      {"fp8", kFp8, DType::kF32},
      {"fp8_bf16", kFp8, DType::kBF16},
      {"fp8_tensor", kFp8, DType::kF32, 0, true},
      {"fp8_block", kFp8Block, DType::kBF16},
      {"nvfp4", kNvfp4, DType::kF8E4M3, 16},
      {"int4_g128", kInt4Group, DType::kBF16, 128},
      {"int4_g32", kInt4Group, DType::kF16, 32},
      {"int4_g8", kInt4Group, DType::kF32, 8},
      {"int4_g24", kInt4Group, DType::kF32, 24},
      {"int8_g64", kInt8Group, DType::kBF16, 64},
      {"int8_g24", kInt8Group, DType::kF32, 24},
  };
  return kinds;
}

/// The number of columns at or above `cols` that the layout can have.
inline int64_t fitting_cols(const MatrixKind& kind, int64_t cols) {
  // The last group of an INT8 row may be short.
  const int64_t unit = kind.group > 0 && kind.format != WeightFormat::kInt8Group ? kind.group : 1;
  return (cols + unit - 1) / unit * unit;
}

/// Random finite codes of every kind, subnormals included, in memory that starts at an odd address.
class TestMatrix {
 public:
  TestMatrix(const MatrixKind& kind, int64_t rows, int64_t cols, uint32_t seed) : random_(seed) {
    view_.format = kind.format;
    view_.rows = rows;
    view_.cols = cols;
    view_.scale_dtype = kind.scale_dtype;
    view_.group_size = kind.group;
    data_.resize(static_cast<size_t>(rows * row_bytes(view_)) + 1);
    for (std::byte& b : data_) b = std::byte{static_cast<uint8_t>(random_())};
    view_.data = data_.data() + 1;
    make_finite();
    if (scale_cols(view_) == 0) return;
    view_.scale_rows = rows;
    if (kind.format == WeightFormat::kFp8Block) view_.scale_rows = (rows + 127) / 128;
    if (kind.one_scale) view_.scale_rows = 1;
    if (kind.format == WeightFormat::kNvfp4) view_.global_scale = 0.0123F;
    scales_.resize(static_cast<size_t>(scale_bytes(view_)) + 1);
    view_.scales = scales_.data() + 1;
    for (int64_t i = 0; i < view_.scale_rows * scale_cols(view_); ++i) put_scale(i);
  }

  const WeightMatrix& view() const { return view_; }
  /// dequantize_row of every row.
  std::vector<float> values() const {
    std::vector<float> result(static_cast<size_t>(view_.rows * view_.cols));
    const auto cols = static_cast<size_t>(view_.cols);
    for (int64_t r = 0; r < view_.rows; ++r) {
      dequantize_row(view_, r, std::span(result).subspan(static_cast<size_t>(r) * cols, cols));
    }
    return result;
  }

 private:
  /// Every byte of FP8 but NaN; 16- and 32-bit values of moderate size, some tiny.
  void make_finite() {
    std::normal_distribution<float> normal;
    std::byte* p = data_.data() + 1;
    const int64_t count = view_.rows * view_.cols;
    for (int64_t i = 0; i < count; ++i) {
      const float value = normal(random_) * (i % 7 == 0 ? 0x1p-20F : 1.0F);
      const uint16_t f16 = float_to_f16(value);
      const uint16_t bf16 = float_to_bf16(value);
      if (view_.format == WeightFormat::kF32) std::memcpy(p + 4 * i, &value, 4);
      if (view_.format == WeightFormat::kF16) std::memcpy(p + 2 * i, &f16, 2);
      if (view_.format == WeightFormat::kBF16) std::memcpy(p + 2 * i, &bf16, 2);
      const bool fp8 =
          view_.format == WeightFormat::kFp8 || view_.format == WeightFormat::kFp8Block;
      if (fp8 && (p[i] & std::byte{0x7f}) == std::byte{0x7f}) p[i] = std::byte{0x7e};
    }
  }

  void put_scale(int64_t i) {
    std::uniform_real_distribution<float> uniform(0.1F, 1.9F);
    const float value = uniform(random_);
    std::byte* p = scales_.data() + 1;
    const uint16_t f16 = float_to_f16(value);
    const uint16_t bf16 = float_to_bf16(value);
    // Block scales of every size, subnormal ones too.
    const auto fp8 = static_cast<uint8_t>(random_() % 0x7f);
    if (view_.scale_dtype == DType::kF32) std::memcpy(p + 4 * i, &value, 4);
    if (view_.scale_dtype == DType::kF16) std::memcpy(p + 2 * i, &f16, 2);
    if (view_.scale_dtype == DType::kBF16) std::memcpy(p + 2 * i, &bf16, 2);
    if (view_.scale_dtype == DType::kF8E4M3) p[i] = std::byte{fp8};
  }

  std::mt19937 random_;
  std::vector<std::byte> data_;
  std::vector<std::byte> scales_;
  WeightMatrix view_;
};

inline std::vector<float> random_floats(int64_t count, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> result(static_cast<size_t>(count));
  for (float& value : result) value = normal(random);
  return result;
}

inline TensorView view_of(const std::vector<float>& values, Shape shape) {
  return {values.data(), DType::kF32, shape};
}
inline TensorView view_of(const std::vector<int32_t>& values, Shape shape) {
  return {values.data(), DType::kI32, shape};
}

/// Whether two arrays are the same bits.
inline bool same_bits(std::span<const float> a, std::span<const float> b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size_bytes()) == 0;
}

/// An instruction set's name as a test name.
inline std::string isa_name(Isa isa) {
  return isa == Isa::kBaseline ? "baseline" : isa == Isa::kAvx2 ? "avx2" : "avx512";
}

}  // namespace facet::cpu::test
