#include "kernels/kernel_choice.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"

namespace facet {
namespace {

using testing::HasSubstr;

constexpr Activation kGeGlu = {ActivationFunction::kGeluTanh, Gating::kGated};

ProductQuery linear(ComputeCapability device,
                    WeightFormat format,
                    PathWish wish,
                    bool input_scale) {
  return {device, format, 8192, 2816, input_scale, wish};
}
ExpertsQuery experts(ComputeCapability device,
                     WeightFormat format,
                     PathWish wish,
                     bool input_scale) {
  return {device, format, kGeGlu, 2816, 704, input_scale, wish};
}

/// The error's code and line, or "" if there was none.
template <typename Body>
std::string refusal(ErrorCode code, const Body& body) {
  try {
    body();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code);
    const std::string line = error.what();
    EXPECT_EQ(line.find('\n'), std::string::npos);
    return line;
  }
  return "";
}

struct Row {
  ComputeCapability device;
  ProductPath auto_with_scale;  // NVFP4 with input_scale, auto
  bool w4a4;                    // whether asking for it works
};

// HW-4: SM80 to SM90 compute W4A16, SM100, SM103 and SM120 W4A4.
constexpr Row kRows[] = {
    {{8, 0}, ProductPath::kW4A16, false}, {{8, 9}, ProductPath::kW4A16, false},
    {{9, 0}, ProductPath::kW4A16, false}, {{10, 0}, ProductPath::kW4A4, true},
    {{10, 3}, ProductPath::kW4A4, true},  {{12, 0}, ProductPath::kW4A4, true},
};

TEST(KernelChoice, Nvfp4OnEveryArchitecture) {
  for (const Row& row : kRows) {
    SCOPED_TRACE(row.device.major * 10 + row.device.minor);
    const auto kNvfp4 = WeightFormat::kNvfp4;
    EXPECT_EQ(choose_linear(linear(row.device, kNvfp4, PathWish::kAuto, true)).path,
              row.auto_with_scale);
    EXPECT_EQ(choose_experts(experts(row.device, kNvfp4, PathWish::kAuto, true)).path,
              row.auto_with_scale);
    // Weight-only files have nothing to quantise activations with.
    EXPECT_EQ(choose_linear(linear(row.device, kNvfp4, PathWish::kAuto, false)).path,
              ProductPath::kW4A16);
    // The exact path can always be had.
    EXPECT_EQ(choose_linear(linear(row.device, kNvfp4, PathWish::kW4A16, true)).path,
              ProductPath::kW4A16);
    EXPECT_EQ(choose_experts(experts(row.device, kNvfp4, PathWish::kW4A16, true)).path,
              ProductPath::kW4A16);
    const auto asked = [&] {
      return choose_experts(experts(row.device, kNvfp4, PathWish::kW4A4, true));
    };
    if (row.w4a4) {
      EXPECT_EQ(asked().path, ProductPath::kW4A4);
    } else {
      EXPECT_THAT(refusal(ErrorCode::kUsage, asked),
                  HasSubstr("--nvfp4-path: w4a4 needs FP4 tensor cores"));
    }
  }
}

TEST(KernelChoice, OtherFormatsDoNotDependOnTheArchitecture) {
  for (const Row& row : kRows) {
    const auto path = [&](WeightFormat format) {
      return choose_linear(linear(row.device, format, PathWish::kAuto, false)).path;
    };
    EXPECT_EQ(path(WeightFormat::kBF16), ProductPath::kW16);
    EXPECT_EQ(path(WeightFormat::kF32), ProductPath::kW16);
    EXPECT_EQ(path(WeightFormat::kFp8), ProductPath::kW8A16);
    EXPECT_EQ(path(WeightFormat::kFp8Block), ProductPath::kW8A16);
    EXPECT_EQ(path(WeightFormat::kInt4Group), ProductPath::kW4A16);
    EXPECT_EQ(choose_experts(experts(row.device, WeightFormat::kBF16, PathWish::kAuto, false)).path,
              ProductPath::kW16);
  }
}

TEST(KernelChoice, AWishIsNeverDropped) {
  const ComputeCapability blackwell = {10, 0};
  const auto line = [&](WeightFormat format, PathWish wish, bool scale) {
    return refusal(ErrorCode::kUsage,
                   [&] { choose_linear(linear(blackwell, format, wish, scale)); });
  };
  EXPECT_THAT(line(WeightFormat::kNvfp4, PathWish::kW4A4, false), HasSubstr("has none"));
  EXPECT_EQ(line(WeightFormat::kBF16, PathWish::kW4A4, false),
            "--nvfp4-path: w4a4 is for NVFP4 weights; these are BF16");
  EXPECT_EQ(line(WeightFormat::kFp8, PathWish::kW4A16, false),
            "--nvfp4-path: w4a16 is for NVFP4 weights; these are FP8");
  EXPECT_EQ(line(WeightFormat::kNvfp4, PathWish::kW4A16, false), "");
}

TEST(KernelChoice, OldDevicesAreRefused) {
  const auto line = refusal(ErrorCode::kDevice, [] {
    choose_linear(linear({7, 5}, WeightFormat::kBF16, PathWish::kAuto, false));
  });
  EXPECT_EQ(line, "the GPU is sm_75; BF16 tensor cores need sm_80 or newer");
}

TEST(KernelChoice, ActivationsWithoutAKernelAreNamed) {
  ExpertsQuery query = experts({9, 0}, WeightFormat::kNvfp4, PathWish::kAuto, true);
  query.activation = {ActivationFunction::kSilu, Gating::kGated};
  EXPECT_THAT(choose_experts(query).words.kernel, HasSubstr("SwiGLU"));
  query.activation = {ActivationFunction::kRelu2, Gating::kPlain};
  EXPECT_THAT(refusal(ErrorCode::kBadCheckpoint, [&] { choose_experts(query); }),
              HasSubstr(std::string(to_string(query.activation))));
  query.activation = {ActivationFunction::kGeluTanh, Gating::kPlain};
  EXPECT_THAT(refusal(ErrorCode::kBadCheckpoint, [&] { choose_experts(query); }),
              HasSubstr(std::string(to_string(query.activation))));
}

TEST(KernelChoice, OddShapesTakeThePlainKernelAndSaySo) {
  ProductQuery query = linear({9, 0}, WeightFormat::kBF16, PathWish::kAuto, false);
  EXPECT_TRUE(choose_linear(query).tensor_cores);
  query.cols = 2820;
  EXPECT_FALSE(choose_linear(query).tensor_cores);
  EXPECT_THAT(choose_linear(query).words.why, HasSubstr("2820 columns"));
  query = linear({9, 0}, WeightFormat::kInt4Group, PathWish::kAuto, false);
  EXPECT_FALSE(choose_linear(query).tensor_cores);
  EXPECT_THAT(choose_linear(query).words.why, HasSubstr("INT4"));
}

TEST(KernelChoice, EveryChoiceSaysWhatAndWhyInOneLine) {
  for (const Row& row : kRows) {
    for (const bool scale : {false, true}) {
      const KernelChoice words =
          choose_experts(experts(row.device, WeightFormat::kNvfp4, PathWish::kAuto, scale)).words;
      EXPECT_FALSE(words.kernel.empty());
      EXPECT_FALSE(words.why.empty());
      EXPECT_EQ((words.kernel + words.why).find('\n'), std::string::npos);
    }
  }
}

TEST(KernelChoice, WishesHaveNames) {
  EXPECT_EQ(find_path_wish("auto"), PathWish::kAuto);
  EXPECT_EQ(find_path_wish("w4a16"), PathWish::kW4A16);
  EXPECT_EQ(find_path_wish("w4a4"), PathWish::kW4A4);
  EXPECT_EQ(find_path_wish("W4A4"), std::nullopt);
}

}  // namespace
}  // namespace facet
