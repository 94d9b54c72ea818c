#include <fmt/core.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <limits>

#include "checkpoint/assemble.h"
#include "checkpoint/test_parts.h"
#include "quant/float_formats.h"

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
using testing::HasSubstr;
using testing::UnorderedElementsAre;

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr float kInf = std::numeric_limits<float>::infinity();

TEST(AssembleFaults, NamesEachMissingPart) {
  for (const char* suffix : {"weight", "weight_scale", "weight_scale_2"}) {
    EXPECT_THAT(assemble(modelopt_nvfp4().drop(suffix), kSmall, kNvfp4Scheme).faults,
                ElementsAre(names(suffix, "missing")));
  }
  for (const char* suffix : {"weight_packed", "weight_scale", "weight_global_scale"}) {
    EXPECT_THAT(assemble(packed_nvfp4().drop(suffix), kSmall, kNvfp4Scheme).faults,
                ElementsAre(names(suffix, "missing")));
  }
  for (const char* suffix : {"weight", "weight_scale"}) {
    EXPECT_THAT(assemble(fp8({4, 1}).drop(suffix), kSmall, kFp8Scheme).faults,
                ElementsAre(names(suffix, "missing")));
    EXPECT_THAT(assemble(fp8({4, 1}).drop(suffix), kSmall, kFp8BlockScheme).faults.front(),
                names(suffix, "missing"));
  }
  for (const char* suffix : {"weight_packed", "weight_scale", "weight_shape"}) {
    EXPECT_THAT(assemble(packed_int4().drop(suffix), kSmall, kInt4Scheme).faults,
                ElementsAre(names(suffix, "missing")));
  }
  EXPECT_THAT(assemble(Parts(), kSmall).faults, ElementsAre(names("weight", "[4, 64]")));
  EXPECT_THAT(assemble(Parts(), kSmall, kInt4Scheme).faults,
              ElementsAre(names("weight", "INT4 [4, 64]")));
}

TEST(AssembleFaults, AScaleWithoutItsWeight) {
  Parts parts;
  parts.zeros("weight_scale", DType::kF8E4M3, {4, 4});
  EXPECT_THAT(assemble(parts, kSmall).faults, ElementsAre(names("weight", "wanted U8 [4, 32]"),
                                                          names("weight_scale_2", "missing")));
  Parts lonely;
  lonely.scalar("input_scale", 1.0F);
  EXPECT_THAT(assemble(lonely, kSmall).faults,
              UnorderedElementsAre(names("weight", "missing"), names("input_scale", "extra")));
}

TEST(AssembleFaults, NamesPartsThatDoNotBelong) {
  EXPECT_THAT(assemble(modelopt_nvfp4().scalar("output_scale", 1.0F), kSmall, kNvfp4Scheme).faults,
              ElementsAre(names("output_scale", "extra")));
  EXPECT_THAT(
      assemble(modelopt_nvfp4().scalar("weight_scale_inv", 1.0F), kSmall, kNvfp4Scheme).faults,
      ElementsAre(names("weight_scale_inv", "extra")));
  EXPECT_THAT(
      assemble(modelopt_nvfp4().zeros("pre_quant_scale", DType::kBF16, {64}), kSmall, kNvfp4Scheme)
          .faults,
      ElementsAre(names("pre_quant_scale", "NVFP4_AWQ")));
  EXPECT_THAT(
      assemble(modelopt_nvfp4().scalar("weight_scale_2", 1.0F), kSmall, kNvfp4Scheme).faults,
      ElementsAre(names("weight_scale_2", "second")));
  Parts plain;
  plain.zeros("weight", DType::kBF16, kSmall).scalar("weight_scale", 1.0F);
  EXPECT_THAT(assemble(plain, kSmall).faults, ElementsAre(names("weight_scale", "extra")));
  Parts both = modelopt_nvfp4();
  both.zeros("weight_packed", DType::kU8, {4, 32}).scalar("bogus", 1.0F);
  EXPECT_THAT(assemble(both, kSmall, kNvfp4Scheme).faults,
              UnorderedElementsAre(names("weight_packed", "both"), names("bogus", "extra")));
}

TEST(AssembleFaults, WrongDtypes) {
  const auto with = [](Parts parts, std::string suffix, DType dtype, Shape shape) {
    parts.drop(suffix).zeros(std::move(suffix), dtype, shape);
    return parts;
  };
  EXPECT_THAT(
      assemble(with(modelopt_nvfp4(), "weight", DType::kI8, {4, 32}), kSmall, kNvfp4Scheme).faults,
      ElementsAre(names("weight", "found I8, wanted U8")));
  EXPECT_THAT(
      assemble(with(modelopt_nvfp4(), "weight_scale", DType::kBF16, {4, 4}), kSmall, kNvfp4Scheme)
          .faults,
      ElementsAre(names("weight_scale", "found BF16, wanted F8_E4M3")));
  EXPECT_THAT(
      assemble(with(modelopt_nvfp4(), "weight_scale_2", DType::kF64, {}), kSmall, kNvfp4Scheme)
          .faults,
      ElementsAre(names("weight_scale_2", "found F64, wanted F32")));
  EXPECT_THAT(
      assemble(with(packed_nvfp4(), "weight_packed", DType::kI32, {4, 8}), kSmall, kNvfp4Scheme)
          .faults,
      ElementsAre(names("weight_packed", "found I32, wanted U8")));
  EXPECT_THAT(
      assemble(with(packed_int4(), "weight_packed", DType::kU8, {4, 32}), kSmall, kInt4Scheme)
          .faults,
      ElementsAre(names("weight_packed", "found U8, wanted I32")));
  EXPECT_THAT(
      assemble(with(fp8({4, 1}), "weight", DType::kF8E5M2, kSmall), kSmall, kFp8Scheme).faults,
      ElementsAre(names("weight", "found F8_E5M2, wanted F8_E4M3")));
  Parts plain;
  plain.zeros("weight", DType::kF64, kSmall);
  EXPECT_THAT(assemble(plain, kSmall).faults,
              ElementsAre(names("weight", "found F64, wanted BF16 or F16 or F32")));
  Parts unknown;
  unknown.zeros("weight_packed", DType::kI64, {4, 4});
  EXPECT_THAT(assemble(unknown, kSmall).faults,
              ElementsAre(names("weight_packed", "found I64, wanted U8 (NVFP4) or I32 (INT4)")));
}

TEST(AssembleFaults, WrongShapes) {
  const auto with = [](Parts parts, std::string suffix, DType dtype, Shape shape) {
    parts.drop(suffix).zeros(std::move(suffix), dtype, shape);
    return parts;
  };
  EXPECT_THAT(
      assemble(with(modelopt_nvfp4(), "weight", DType::kU8, {4, 64}), kSmall, kNvfp4Scheme).faults,
      ElementsAre(names("weight", "found [4, 64], wanted [4, 32]")));
  EXPECT_THAT(
      assemble(with(modelopt_nvfp4(), "weight", DType::kU8, {32, 4}), kSmall, kNvfp4Scheme).faults,
      ElementsAre(names("weight", "found [32, 4], wanted [4, 32]")));
  EXPECT_THAT(
      assemble(with(modelopt_nvfp4(), "weight_scale", DType::kF8E4M3, {4, 2}), kSmall, kNvfp4Scheme)
          .faults,
      ElementsAre(names("weight_scale", "found [4, 2], wanted [4, 4]")));
  EXPECT_THAT(
      assemble(with(modelopt_nvfp4(), "weight_scale_2", DType::kF32, {2}), kSmall, kNvfp4Scheme)
          .faults,
      ElementsAre(names("weight_scale_2", "found [2], wanted [] or [1]")));
  EXPECT_THAT(assemble(fp8({2, 1}), kSmall, kFp8Scheme).faults,
              ElementsAre(names("weight_scale", "found [2, 1], wanted [4, 1]")));
  Parts plain;
  plain.zeros("weight", DType::kBF16, {64, 4});
  EXPECT_THAT(assemble(plain, kSmall).faults,
              ElementsAre(names("weight", "found [64, 4], wanted [4, 64]")));
  EXPECT_THAT(assemble(modelopt_nvfp4().drop("input_scale").scalar("input_scale", 1.0F, {1, 1}),
                       kSmall, kNvfp4Scheme)
                  .faults,
              ElementsAre(names("input_scale", "found [1, 1]")));
}

TEST(AssembleFaults, ColumnsThatDoNotDivide) {
  Parts nvfp4;
  nvfp4.zeros("weight", DType::kU8, {1, 12})
      .zeros("weight_scale", DType::kF8E4M3, {1, 1})
      .scalar("weight_scale_2", 1.0F);
  const Assembled a = assemble(nvfp4, {1, 24}, kNvfp4Scheme);
  ASSERT_EQ(a.faults.size(), 1u);
  EXPECT_THAT(a.faults[0], HasSubstr("a multiple of 16 columns, the matrix is [1, 24]"));
  const QuantScheme scheme{WeightFormat::kInt4Group, 48, false};
  const Assembled b = assemble(packed_int4(), kSmall, scheme);
  ASSERT_EQ(b.faults.size(), 1u);
  EXPECT_THAT(b.faults[0], HasSubstr("groups of 48"));
}

class BadScale : public testing::TestWithParam<float> {};

TEST_P(BadScale, IsNamedWithItsValue) {
  const float bad = GetParam();
  const std::string text = fmt::format("{}", bad);
  for (const char* suffix : {"weight_scale_2", "input_scale"}) {
    EXPECT_THAT(
        assemble(modelopt_nvfp4().drop(suffix).scalar(suffix, bad), kSmall, kNvfp4Scheme).faults,
        ElementsAre(names(suffix, text)));
  }
  for (const char* suffix : {"weight_global_scale", "input_global_scale"}) {
    EXPECT_THAT(
        assemble(packed_nvfp4().drop(suffix).scalar(suffix, bad, {1}), kSmall, kNvfp4Scheme).faults,
        ElementsAre(names(suffix, text)));
  }
  EXPECT_THAT(assemble(fp8({}, bad), kSmall, kFp8Scheme).faults,
              ElementsAre(names("weight_scale", text)));
  EXPECT_THAT(assemble(fp8({4, 1}).scalar("input_scale", bad), kSmall, kFp8Scheme).faults,
              ElementsAre(names("input_scale", text)));
  Parts int4_last = packed_int4().drop("weight_scale");
  std::vector<uint16_t> scales(8, 0x3f80);
  scales[7] = float_to_bf16(bad);
  int4_last.add("weight_scale", DType::kBF16, {4, 2}, scales);
  EXPECT_THAT(assemble(int4_last, kSmall, kInt4Scheme).faults,
              ElementsAre(names("weight_scale", "at [3, 1]")));
}

INSTANTIATE_TEST_SUITE_P(Values, BadScale, testing::Values(kNaN, kInf, -kInf, 0.0F, -0.0F, -1.0F));

TEST(AssembleFaults, AGlobalScaleWithoutReciprocal) {
  EXPECT_THAT(
      assemble(packed_nvfp4().drop("weight_global_scale").scalar("weight_global_scale", 1e-40F),
               kSmall, kNvfp4Scheme)
          .faults,
      ElementsAre(names("weight_global_scale", "reciprocal")));
}

TEST(AssembleFaults, FindsNaNAndNegativeBlockScalesAnywhere) {
  const int64_t rows = 600;  // 4800 scales: more than one stretch of the scan
  for (const uint8_t bad : {uint8_t{0x7f}, uint8_t{0xff}, uint8_t{0x81}, uint8_t{0xfe}}) {
    for (const size_t at : {size_t{0}, size_t{7}, size_t{4095}, size_t{4096}, size_t{4799}}) {
      std::vector<uint8_t> scales(4800, 0x7e);
      scales[at] = bad;
      Parts parts;
      parts.zeros("weight", DType::kU8, {rows, 64})
          .add("weight_scale", DType::kF8E4M3, {rows, 8}, scales)
          .scalar("weight_scale_2", 1.0F);
      EXPECT_THAT(assemble(parts, {rows, 128}, kNvfp4Scheme).faults,
                  ElementsAre(names("weight_scale",
                                    fmt::format("NaN or negative at [{}, {}]", at / 8, at % 8))));
    }
  }
  Parts clean;  // every code from zero up, and minus zero
  std::vector<uint8_t> codes(256);
  for (size_t i = 0; i < 256; ++i) codes[i] = static_cast<uint8_t>(i < 0x7f ? i : 0x80);
  clean.zeros("weight", DType::kU8, {4, 512})
      .add("weight_scale", DType::kF8E4M3, {4, 64}, codes)
      .scalar("weight_scale_2", 1.0F);
  EXPECT_EQ(assemble(clean, {4, 1024}, kNvfp4Scheme).faults, std::vector<std::string>{});
}

TEST(AssembleFaults, TheConfigMustNotContradictTheFile) {
  Parts plain;
  plain.zeros("weight", DType::kBF16, kSmall);
  EXPECT_THAT(assemble(plain, kSmall, kNvfp4Scheme).faults,
              ElementsAre(names("weight", "stored BF16, quantization config says NVFP4")));
  EXPECT_THAT(assemble(modelopt_nvfp4(), kSmall).faults,
              ElementsAre(names("weight", "stored NVFP4, quantization config says not quantized")));
  EXPECT_THAT(assemble(packed_nvfp4(), kSmall, kInt4Scheme).faults,
              ElementsAre(names("weight_packed", "stored NVFP4, quantization config says INT4")));
  EXPECT_THAT(
      assemble(packed_int4(), kSmall).faults,
      ElementsAre(names("weight_packed", "stored INT4, quantization config says not quantized")));
  EXPECT_THAT(assemble(fp8({4, 1}), kSmall, kNvfp4Scheme).faults,
              ElementsAre(names("weight", "stored FP8, quantization config says NVFP4")));
  EXPECT_THAT(assemble(fp8({4, 1}), kSmall, kFp8BlockScheme).faults,
              ElementsAre(names("weight", "stored FP8, quantization config says FP8 block")));
}

TEST(AssembleFaults, RefusesMxFormats) {
  Parts mxfp4;
  mxfp4.zeros("weight_packed", DType::kU8, {4, 32}).zeros("weight_scale", DType::kU8, {4, 2});
  EXPECT_THAT(assemble(mxfp4, kSmall).faults, ElementsAre(names("weight_scale", "MXFP4")));
  Parts mxfp8;
  mxfp8.zeros("weight", DType::kF8E4M3, kSmall).zeros("weight_scale", DType::kF8E8M0, {4, 2});
  EXPECT_THAT(assemble(mxfp8, kSmall, kFp8Scheme).faults,
              ElementsAre(names("weight_scale", "MXFP8")));
}

TEST(AssembleFaults, ReportsEveryFaultOfALinearAtOnce) {
  Parts parts;
  parts.zeros("weight", DType::kU8, {4, 31})
      .add("weight_scale", DType::kF8E4M3, {4, 4}, std::vector<uint8_t>(16, 0xff))
      .zeros("weight_scale_2", DType::kBF16, {})
      .scalar("input_scale", kNaN)
      .zeros("pre_quant_scale", DType::kBF16, {64})
      .scalar("bogus\n", 1.0F);
  const Assembled result = assemble(parts, kSmall);
  EXPECT_THAT(result.faults, UnorderedElementsAre(
                                 names("weight", "wanted [4, 32]"),
                                 names("weight_scale", "NaN or negative at [0, 0]"),
                                 names("weight_scale_2", "found BF16"), names("input_scale", "nan"),
                                 names("pre_quant_scale", "NVFP4_AWQ"),
                                 names("bogus\\x0a", "extra"), names("weight", "not quantized")));
}

}  // namespace
}  // namespace facet
