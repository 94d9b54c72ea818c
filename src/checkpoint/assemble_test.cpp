#include "checkpoint/assemble.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <random>

#include "checkpoint/test_parts.h"
#include "quant/nvfp4.h"

namespace facet {
namespace {

using test::assemble;
using test::Assembled;
using test::fp8;
using test::kFp8BlockScheme;
using test::kFp8Scheme;
using test::kInt4Scheme;
using test::kNvfp4Scheme;
using test::kSmall;
using test::modelopt_nvfp4;
using test::names;
using test::packed_int4;
using test::packed_nvfp4;
using test::Parts;
using testing::ElementsAre;

std::vector<float> random_weights(int64_t count) {
  std::mt19937 random(7);
  std::normal_distribution<float> normal;
  std::vector<float> w(static_cast<size_t>(count));
  for (float& value : w) value = normal(random);
  return w;
}

std::vector<float> dequantized(const WeightMatrix& matrix) {
  std::vector<float> out(static_cast<size_t>(matrix.rows * matrix.cols));
  for (int64_t r = 0; r < matrix.rows; ++r) {
    dequantize_row(matrix, r,
                   std::span(out).subspan(static_cast<size_t>(r * matrix.cols),
                                          static_cast<size_t>(matrix.cols)));
  }
  return out;
}

Parts modelopt(const Nvfp4Matrix& matrix) {
  Parts parts;
  parts.add("weight", DType::kU8, {4, 32}, matrix.codes)
      .add("weight_scale", DType::kF8E4M3, {4, 4}, matrix.scales)
      .scalar("weight_scale_2", matrix.global_scale)
      .scalar("input_scale", 0.25F);
  return parts;
}

Parts packed(const Nvfp4Matrix& matrix) {
  Parts parts;
  parts.add("weight_packed", DType::kU8, {4, 32}, matrix.codes)
      .add("weight_scale", DType::kF8E4M3, {4, 4}, matrix.scales)
      .scalar("weight_global_scale",
              static_cast<float>(1.0 / static_cast<double>(matrix.global_scale)), {1})
      .scalar("input_global_scale", 4.0F, {1});
  return parts;
}

TEST(Assemble, PlainMatrices) {
  Parts bf16;
  bf16.add("weight", DType::kBF16, {1, 2}, std::vector<uint16_t>{0x3f80, 0xc000});
  EXPECT_THAT(dequantized(assemble(bf16, {1, 2}).matrix), ElementsAre(1.0F, -2.0F));
  Parts f16;
  f16.add("weight", DType::kF16, {1, 2}, std::vector<uint16_t>{0x3c00, 0xc000});
  EXPECT_EQ(assemble(f16, {1, 2}).matrix.format, WeightFormat::kF16);
  EXPECT_THAT(dequantized(assemble(f16, {1, 2}).matrix), ElementsAre(1.0F, -2.0F));
  Parts f32;
  f32.add("weight", DType::kF32, {1, 2}, std::vector<float>{1.0F, -2.0F});
  EXPECT_EQ(assemble(f32, {1, 2}).matrix.format, WeightFormat::kF32);
  EXPECT_THAT(dequantized(assemble(f32, {1, 2}).matrix), ElementsAre(1.0F, -2.0F));
}

// The reciprocal of a power of two is exact, so both conventions must give the same numbers.
TEST(Assemble, ModelOptAndCompressedTensorsGiveTheSameMatrix) {
  const Nvfp4Matrix matrix = quantize_nvfp4(random_weights(256), 4, 64, 0x1p-9F);
  const Assembled a = assemble(modelopt(matrix), kSmall, kNvfp4Scheme);
  const Assembled b = assemble(packed(matrix), kSmall, kNvfp4Scheme);
  EXPECT_EQ(a.matrix.global_scale, 0x1p-9F);
  EXPECT_EQ(b.matrix.global_scale, 0x1p-9F);
  EXPECT_EQ(a.matrix.input_scale, 0.25F);
  EXPECT_EQ(b.matrix.input_scale, 0.25F);
  EXPECT_EQ(a.matrix.group_size, 16);
  EXPECT_EQ(a.matrix.scale_rows, 4);
  EXPECT_EQ(dequantized(a.matrix), dequantized(b.matrix));
  EXPECT_NE(dequantized(a.matrix)[0], 0.0F);
}

TEST(Assemble, TheReciprocalIsRoundedOnceFromDouble) {
  Parts parts = packed_nvfp4();
  parts.drop("weight_global_scale").scalar("weight_global_scale", 2688.0F / 0.37F);
  const Assembled result = assemble(parts, kSmall, kNvfp4Scheme);
  EXPECT_EQ(result.matrix.global_scale,
            static_cast<float>(1.0 / static_cast<double>(2688.0F / 0.37F)));
}

TEST(Assemble, WeightOnlyNvfp4HasNoInputScale) {
  const QuantScheme static_input{WeightFormat::kNvfp4, 16, true};
  Parts a = modelopt_nvfp4();
  a.drop("input_scale");
  EXPECT_EQ(assemble(a, kSmall, kNvfp4Scheme).matrix.input_scale, 0.0F);
  EXPECT_THAT(assemble(a, kSmall, static_input).faults,
              ElementsAre(names("input_scale", "missing")));
  Parts b = packed_nvfp4();
  b.drop("input_global_scale");
  EXPECT_EQ(assemble(b, kSmall, kNvfp4Scheme).matrix.input_scale, 0.0F);
  EXPECT_THAT(assemble(b, kSmall, static_input).faults,
              ElementsAre(names("input_global_scale", "missing")));
}

TEST(Assemble, Fp8ScalesOfEveryShape) {
  for (const Shape& shape : {Shape{4, 1}, Shape{4}}) {
    const Assembled result = assemble(fp8(shape), kSmall, kFp8Scheme);
    EXPECT_EQ(result.matrix.format, WeightFormat::kFp8);
    EXPECT_EQ(result.matrix.scale_rows, 4);
    EXPECT_EQ(dequantized(result.matrix), std::vector<float>(256, 0.5F));
  }
  for (const Shape& shape : {Shape{}, Shape{1}, Shape{1, 1}}) {
    const Assembled result = assemble(fp8(shape), kSmall, kFp8Scheme);
    EXPECT_EQ(result.matrix.format, WeightFormat::kFp8);
    EXPECT_EQ(result.matrix.scale_rows, 1);
    EXPECT_EQ(dequantized(result.matrix), std::vector<float>(256, 0.5F));
  }
  const Assembled block = assemble(fp8({1, 1}), kSmall, kFp8BlockScheme);
  EXPECT_EQ(block.matrix.format, WeightFormat::kFp8Block);
  EXPECT_EQ(dequantized(block.matrix), std::vector<float>(256, 0.5F));
}

TEST(Assemble, Fp8Blocks) {
  Parts parts;
  parts.add("weight", DType::kF8E4M3, {130, 257}, std::vector<uint8_t>(130 * 257, 0x38))
      .add("weight_scale", DType::kBF16, {2, 3},
           std::vector<uint16_t>{0x3f80, 0x4000, 0x4040, 0x4080, 0x40a0, 0x40c0});
  const Assembled result = assemble(parts, {130, 257}, kFp8BlockScheme);
  EXPECT_EQ(result.matrix.format, WeightFormat::kFp8Block);
  const std::vector<float> w = dequantized(result.matrix);
  EXPECT_EQ(w[0], 1.0F);
  EXPECT_EQ(w[256], 3.0F);
  EXPECT_EQ(w[127 * 257 + 127], 1.0F);
  EXPECT_EQ(w[129 * 257 + 128], 5.0F);
  EXPECT_EQ(w[129 * 257 + 256], 6.0F);
  EXPECT_THAT(assemble(parts, {130, 257}, kFp8Scheme).faults,
              ElementsAre(names("weight", "stored FP8 block, quantization config says FP8")));
}

TEST(Assemble, Int4TakesItsGroupFromTheFile) {
  for (const int64_t groups : {1, 2, 4, 8}) {
    const QuantScheme scheme{WeightFormat::kInt4Group, static_cast<int32_t>(64 / groups), false};
    const Assembled result = assemble(packed_int4(groups), kSmall, scheme);
    EXPECT_EQ(result.matrix.group_size, 64 / groups);
    EXPECT_EQ(dequantized(result.matrix), std::vector<float>(256, 0.5F));
  }
  EXPECT_THAT(assemble(packed_int4(4), kSmall, kInt4Scheme).faults,
              ElementsAre(names("weight_scale", "found [4, 4], wanted [4, 2]")));
  const QuantScheme unset{WeightFormat::kInt4Group, 0, false};
  EXPECT_THAT(assemble(packed_int4(16), kSmall, unset).faults,
              ElementsAre(names("weight_scale", "[4, 16]")));
  EXPECT_THAT(assemble(packed_int4(3), kSmall, unset).faults,
              ElementsAre(names("weight_scale", "[4, 3]")));
}

TEST(Assemble, Int4StoredShapeMustAgree) {
  Parts parts = packed_int4();
  parts.drop("weight_shape").add("weight_shape", DType::kI64, {2}, std::vector<int64_t>{64, 4});
  EXPECT_THAT(assemble(parts, kSmall, kInt4Scheme).faults,
              ElementsAre(names("weight_shape", "says [64, 4], wanted [4, 64]")));
}

TEST(Assemble, OnlySymmetricInt4) {
  Parts symmetric = packed_int4();
  symmetric.add("weight_zero_point", DType::kI32, {1, 2},
                std::vector<uint32_t>{0x00008888u, 0x12348888u});  // rows 4 to 7 do not exist
  EXPECT_EQ(assemble(symmetric, kSmall, kInt4Scheme).faults, std::vector<std::string>{});
  Parts asymmetric = packed_int4();
  asymmetric.add("weight_zero_point", DType::kI32, {1, 2},
                 std::vector<uint32_t>{0x88888888u, 0x88887888u});
  EXPECT_THAT(assemble(asymmetric, kSmall, kInt4Scheme).faults,
              ElementsAre(names("weight_zero_point", "[0, 1]")));
}

TEST(Assemble, OnlyInt4ColumnsInOrder) {
  std::vector<int32_t> index(64);
  for (size_t c = 0; c < 64; ++c) index[c] = static_cast<int32_t>(c / 32);
  const auto with_index = [&] {
    Parts parts = packed_int4();
    parts.add("weight_g_idx", DType::kI32, {64}, index);
    return assemble(parts, kSmall, kInt4Scheme).faults;
  };
  EXPECT_EQ(with_index(), std::vector<std::string>{});
  index[40] = 0;
  EXPECT_THAT(with_index(), ElementsAre(names("weight_g_idx", "column 40 in group 0, wanted 1")));
  index.assign(64, -1);
  EXPECT_EQ(with_index(), std::vector<std::string>{});
  index[63] = 1;
  EXPECT_THAT(with_index(), ElementsAre(names("weight_g_idx", "column 63")));
}

}  // namespace
}  // namespace facet
