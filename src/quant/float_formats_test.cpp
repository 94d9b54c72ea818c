#include "quant/float_formats.h"

#include <cmath>
#include <cstring>
#include <gtest/gtest.h>
#include <limits>
#include <vector>

namespace facet {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

TEST(Bf16, RoundsToNearestEven) {
  EXPECT_EQ(float_to_bf16(1.0F), 0x3f80);
  EXPECT_EQ(float_to_bf16(0x1.01p0F), 0x3f80);      // halfway, down to even
  EXPECT_EQ(float_to_bf16(0x1.03p0F), 0x3f82);      // halfway, up to even
  EXPECT_EQ(float_to_bf16(0x1.010002p0F), 0x3f81);  // just above halfway
  EXPECT_EQ(float_to_bf16(-0x1.03p0F), 0xbf82);
  EXPECT_EQ(float_to_bf16(-0.0F), 0x8000);
  EXPECT_EQ(float_to_bf16(std::numeric_limits<float>::max()), 0x7f80);
  EXPECT_EQ(float_to_bf16(-kInf), 0xff80);
}

TEST(Bf16, KeepsNaNsWhosePayloadWouldBeCutOff) {
  EXPECT_TRUE(std::isnan(bf16_to_float(float_to_bf16(std::bit_cast<float>(0x7f800001u)))));
  EXPECT_TRUE(std::isnan(bf16_to_float(float_to_bf16(std::bit_cast<float>(0x7fffffffu)))));
  EXPECT_EQ(float_to_bf16(std::bit_cast<float>(0xffffffffu)), 0xffff);
}

TEST(Bf16, AllCodesRoundTrip) {
  for (uint32_t code = 0; code < 0x10000; ++code) {
    const float value = bf16_to_float(static_cast<uint16_t>(code));
    if (std::isnan(value)) continue;
    ASSERT_EQ(float_to_bf16(value), code);
  }
}

TEST(F16, AllCodesRoundTrip) {
  EXPECT_EQ(f16_to_float(0x3c00), 1.0F);
  EXPECT_EQ(f16_to_float(0x0001), 0x1p-24F);
  EXPECT_EQ(f16_to_float(0x83ff), -0x3ffp-24F);
  EXPECT_EQ(f16_to_float(0x7bff), 65504.0F);
  EXPECT_EQ(f16_to_float(0xfc00), -kInf);
  EXPECT_TRUE(std::isnan(f16_to_float(0x7c01)));
  EXPECT_TRUE(std::signbit(f16_to_float(0x8000)));
  for (uint32_t code = 0; code < 0x10000; ++code) {
    const float value = f16_to_float(static_cast<uint16_t>(code));
    if (std::isnan(value)) continue;
    ASSERT_EQ(float_to_f16(value), code);
  }
}

TEST(F16, RoundsToNearestEven) {
  EXPECT_EQ(float_to_f16(65519.0F), 0x7bff);
  EXPECT_EQ(float_to_f16(65520.0F), 0x7c00);
  EXPECT_EQ(float_to_f16(0x1p-25F), 0x0000);  // halfway to the least subnormal
  EXPECT_EQ(float_to_f16(0x1.8p-24F), 0x0002);
  EXPECT_EQ(float_to_f16(0x1.ffep-15F), 0x0400);  // halfway to the least normal
  EXPECT_EQ(float_to_f16(1.0F + 0x1p-11F), 0x3c00);
  EXPECT_EQ(float_to_f16(1.0F + 0x3p-11F), 0x3c02);
  EXPECT_TRUE(std::isnan(f16_to_float(float_to_f16(std::bit_cast<float>(0x7f800001u)))));
}

TEST(E4m3, DecodesEveryCode) {
  for (uint32_t code = 0; code < 256; ++code) {
    const float found = e4m3_table()[code];
    if ((code & 0x7f) == 0x7f) {
      EXPECT_TRUE(std::isnan(found)) << code;
      continue;
    }
    const int exponent = static_cast<int>(code >> 3 & 15);
    const int mantissa = static_cast<int>(code & 7);
    const double magnitude =
        exponent == 0 ? std::ldexp(mantissa, -9) : std::ldexp(8 + mantissa, exponent - 10);
    EXPECT_EQ(found, code < 128 ? magnitude : -magnitude) << code;
    EXPECT_EQ(std::signbit(found), code >= 128) << code;
  }
  EXPECT_EQ(e4m3_table()[0x7e], 448.0F);
  EXPECT_EQ(e4m3_table()[0x38], 1.0F);
  EXPECT_EQ(e4m3_table()[0x08], 0x1p-6F);
  EXPECT_EQ(e4m3_table()[0x01], 0x1p-9F);
}

TEST(E4m3, EncodesToNearestWithTiesToEven) {
  for (uint8_t low = 0; low < 0x7e; ++low) {
    const uint8_t high = low + 1;
    const float a = e4m3_table()[low];
    const float b = e4m3_table()[high];
    const float middle = (a + b) / 2;  // exact
    EXPECT_EQ(float_to_e4m3(a), low);
    EXPECT_EQ(float_to_e4m3(-a), low | 0x80);
    EXPECT_EQ(float_to_e4m3(middle), low % 2 == 0 ? low : high) << int{low};
    EXPECT_EQ(float_to_e4m3(std::nextafter(middle, 0.0F)), low) << int{low};
    EXPECT_EQ(float_to_e4m3(std::nextafter(middle, kInf)), high) << int{low};
  }
}

TEST(E4m3, SaturatesAndKeepsNaN) {
  for (const float big : {448.0F, 449.0F, 464.0F, 480.0F, 1e30F, kInf}) {
    EXPECT_EQ(float_to_e4m3(big), 0x7e) << big;
    EXPECT_EQ(float_to_e4m3(-big), 0xfe) << big;
  }
  EXPECT_EQ(float_to_e4m3(kNaN) & 0x7f, 0x7f);
  EXPECT_EQ(float_to_e4m3(std::numeric_limits<float>::denorm_min()), 0x00);
}

TEST(E2m1, DecodesEveryCode) {
  const std::vector<float> wanted = {0, .5, 1, 1.5, 2, 3, 4, 6};
  for (size_t code = 0; code < 8; ++code) {
    EXPECT_EQ(kE2m1Values[code], wanted[code]);
    EXPECT_EQ(kE2m1Values[code + 8], -wanted[code]);
  }
  EXPECT_TRUE(std::signbit(kE2m1Values[8]));
}

TEST(E2m1, TiesGoToTheEvenCode) {
  const std::vector<float> ties = {.25, .75, 1.25, 1.75, 2.5, 3.5, 5};
  const std::vector<float> wanted = {0, 1, 1, 2, 2, 4, 4};
  for (size_t i = 0; i < ties.size(); ++i) {
    const auto below = static_cast<uint8_t>(i);
    EXPECT_EQ(kE2m1Values[float_to_e2m1(ties[i])], wanted[i]);
    EXPECT_EQ(kE2m1Values[float_to_e2m1(-ties[i])], -wanted[i]);
    EXPECT_EQ(float_to_e2m1(std::nextafter(ties[i], 0.0F)), below);
    EXPECT_EQ(float_to_e2m1(std::nextafter(ties[i], 9.0F)), below + 1);
  }
}

TEST(E2m1, SaturatesAndSignsOnlyWhatIsBelowZero) {
  for (const float big : {6.0F, 6.5F, 7.0F, 1e30F, kInf}) {
    EXPECT_EQ(float_to_e2m1(big), 7);
    EXPECT_EQ(float_to_e2m1(-big), 15);
  }
  EXPECT_EQ(float_to_e2m1(-0.0F), 0);
  EXPECT_EQ(float_to_e2m1(-0.1F), 8);
  EXPECT_EQ(float_to_e2m1(kNaN), 0);
}

TEST(ReadFloat, ReadsAtOddAddresses) {
  std::vector<std::byte> bytes(16);
  const float f32 = -2.5F;
  const uint16_t bf16 = 0x3fc0;
  const uint16_t f16 = 0x3e00;
  std::memcpy(bytes.data() + 5, &f32, 4);
  std::memcpy(bytes.data() + 11, &bf16, 2);
  std::memcpy(bytes.data() + 13, &f16, 2);
  bytes[3] = std::byte{0x70};
  EXPECT_EQ(read_float(bytes.data() + 1, DType::kF32, 1), -2.5F);
  EXPECT_EQ(read_float(bytes.data() + 7, DType::kBF16, 2), 1.5F);
  EXPECT_EQ(read_float(bytes.data() + 7, DType::kF16, 3), 1.5F);
  EXPECT_EQ(read_float(bytes.data() + 1, DType::kF8E4M3, 2), 128.0F);
}

}  // namespace
}  // namespace facet
