#include "kernels/kernel_choice.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "kernels/refusal_test.h"

namespace facet {
namespace {

using test::refusal;

using testing::AllOf;
using testing::HasSubstr;

constexpr Activation kGeGlu = {ActivationFunction::kGeluTanh, Gating::kGated};
constexpr auto kNvfp4 = WeightFormat::kNvfp4;
constexpr auto kBf16 = WeightFormat::kBF16;

GpuSetup setup(ComputeCapability device, const KernelWishes& wishes = {}, bool fp4_kernel = true) {
  return {device, "", fp4_kernel, wishes};
}
LinearQuery linear(WeightFormat format, bool input_scale = false) {
  return {format, 8192, 2816, input_scale};
}
ExpertsQuery experts(WeightFormat format, bool input_scale = false) {
  return {format, kGeGlu, 2816, 704, input_scale};
}

struct Row {
  ComputeCapability device;
  ProductPath auto_with_scale;  // NVFP4 with input_scale, auto
  bool w4a4;                    // whether asking for it works
  bool attention_tiles;         // whether their shared memory is there
};

// HW-4: SM80 to SM90 compute W4A16, SM100, SM103 and SM120 W4A4.
constexpr Row kRows[] = {
    {{8, 0}, ProductPath::kW4A16, false, false}, {{8, 9}, ProductPath::kW4A16, false, false},
    {{9, 0}, ProductPath::kW4A16, false, true},  {{10, 0}, ProductPath::kW4A4, true, true},
    {{10, 3}, ProductPath::kW4A4, true, true},   {{12, 0}, ProductPath::kW4A4, true, false},
};

TEST(KernelChoice, Nvfp4OnEveryArchitecture) {
  for (const Row& row : kRows) {
    SCOPED_TRACE(to_string(row.device));
    const GpuSetup by_itself = setup(row.device);
    EXPECT_EQ(choose_linear(by_itself, linear(kNvfp4, true)).plan.path, row.auto_with_scale);
    EXPECT_EQ(choose_experts(by_itself, experts(kNvfp4, true)).plan.path, row.auto_with_scale);
    // Weight-only files have nothing to quantise activations with.
    EXPECT_EQ(choose_linear(by_itself, linear(kNvfp4)).plan.path, ProductPath::kW4A16);
    // The exact path can always be had.
    const GpuSetup exact = setup(row.device, {.nvfp4 = PathWish::kW4A16});
    EXPECT_EQ(choose_linear(exact, linear(kNvfp4, true)).plan.path, ProductPath::kW4A16);
    EXPECT_EQ(choose_experts(exact, experts(kNvfp4, true)).plan.path, ProductPath::kW4A16);
    const GpuSetup asking = setup(row.device, {.nvfp4 = PathWish::kW4A4});
    const auto asked = [&] { return choose_experts(asking, experts(kNvfp4, true)); };
    if (row.w4a4) {
      EXPECT_EQ(asked().plan.path, ProductPath::kW4A4);
      EXPECT_THAT(asked().words.kernel, HasSubstr("not run"));
    } else {
      EXPECT_EQ(refusal(ErrorCode::kUsage, asked),
                "--nvfp4-path w4a4: " + to_string(row.device) +
                    " has no FP4 tensor cores (sm_100 has); auto and w4a16 work");
    }
  }
}

TEST(KernelChoice, ABuildWithoutTheFp4KernelFallsBackAndSaysSo) {
  const GpuSetup without = setup({10, 0}, {}, false);
  const ProductChoice choice = choose_experts(without, experts(kNvfp4, true));
  EXPECT_EQ(choice.plan.path, ProductPath::kW4A16);
  EXPECT_EQ(choice.plan.form, ProductForm::kByTokens);
  EXPECT_THAT(choice.words.why, AllOf(HasSubstr("no FP4 kernel for sm_100"),
                                      HasSubstr("FACET_CUTLASS=ON"), HasSubstr("exact")));
  const GpuSetup asking = setup({10, 0}, {.nvfp4 = PathWish::kW4A4}, false);
  EXPECT_THAT(refusal(ErrorCode::kUsage, [&] { choose_linear(asking, linear(kNvfp4, true)); }),
              AllOf(HasSubstr("--nvfp4-path w4a4: this build has no FP4 kernel"),
                    HasSubstr("auto and w4a16 work")));
}

TEST(KernelChoice, RowsTooWideToBeStreamedAreRefusedOnRequestAlone) {
  const LinearQuery wide = {kBf16, 2816, 9216, false};
  for (const Row& row : kRows) {
    SCOPED_TRACE(to_string(row.device));
    EXPECT_EQ(choose_linear(setup(row.device), wide).plan.form, ProductForm::kByTokens);
    const GpuSetup asking = setup(row.device, {.linears = FormWish::kStream});
    const std::string line = refusal(ErrorCode::kUsage, [&] { choose_linear(asking, wide); });
    const bool small = shared_memory_of(row.device) == 99 * 1024;
    EXPECT_EQ(line, small ? "--linear-kernel stream: cannot compute linears on " +
                                to_string(row.device) +
                                ": [2816, 9216] has rows too wide for shared memory; auto, tiled "
                                "and plain work"
                          : "");
  }
}

TEST(KernelChoice, OtherFormatsDoNotDependOnTheArchitecture) {
  for (const Row& row : kRows) {
    const auto path = [&](WeightFormat format) {
      return choose_linear(setup(row.device), linear(format)).plan.path;
    };
    EXPECT_EQ(path(kBf16), ProductPath::kW16);
    EXPECT_EQ(path(WeightFormat::kF32), ProductPath::kW16);
    EXPECT_EQ(path(WeightFormat::kFp8), ProductPath::kW8A16);
    EXPECT_EQ(path(WeightFormat::kFp8Block), ProductPath::kW8A16);
    EXPECT_EQ(path(WeightFormat::kInt4Group), ProductPath::kW4A16);
    EXPECT_EQ(choose_experts(setup(row.device), experts(kBf16)).plan.path, ProductPath::kW16);
  }
}

TEST(KernelChoice, AttentionOnEveryArchitecture) {
  for (const Row& row : kRows) {
    SCOPED_TRACE(to_string(row.device));
    for (const int32_t head_dim : {256, 512}) {
      const AttentionShape shape = {head_dim == 256 ? DType::kBF16 : DType::kF8E4M3, head_dim, 16,
                                    8};
      EXPECT_EQ(choose_attention(setup(row.device), shape).tiles, row.attention_tiles);
      const GpuSetup plain = setup(row.device, {.attention = AttentionWish::kPlain});
      EXPECT_FALSE(choose_attention(plain, shape).tiles);
      const GpuSetup tiles = setup(row.device, {.attention = AttentionWish::kTiles});
      const auto asked = [&] { choose_attention(tiles, shape); };
      EXPECT_EQ(refusal(ErrorCode::kUsage, asked).empty(), row.attention_tiles);
    }
  }
}

TEST(KernelChoice, AttentionThatTheTilesDoNotTakeSaysWhy) {
  const auto why = [](const AttentionShape& shape) {
    const AttentionChoice choice = choose_attention(setup({9, 0}), shape);
    EXPECT_FALSE(choice.tiles);
    const GpuSetup tiles = setup({9, 0}, {.attention = AttentionWish::kTiles});
    EXPECT_THAT(refusal(ErrorCode::kUsage, [&] { choose_attention(tiles, shape); }),
                AllOf(HasSubstr("--attention-kernel tiles: cannot run on sm_90"),
                      HasSubstr(choice.words.why), HasSubstr("auto and plain work")));
    return choice.words.why;
  };
  EXPECT_EQ(why({DType::kF32, 256, 16, 8}), "the cache is F32, the tiles take BF16 and FP8");
  EXPECT_EQ(why({DType::kBF16, 128, 16, 8}), "heads are 128 wide, the tiles take 256 and 512");
  EXPECT_THAT(why({DType::kBF16, 256, 24, 8}), HasSubstr("3 query heads"));
}

TEST(KernelChoice, FormsThatWereAskedFor) {
  const ComputeCapability hopper = {9, 0};
  const auto form = [&](FormWish wish) {
    return choose_experts(setup(hopper, {.experts = wish}), experts(kNvfp4, true)).plan.form;
  };
  EXPECT_EQ(form(FormWish::kAuto), ProductForm::kByTokens);
  EXPECT_EQ(form(FormWish::kStream), ProductForm::kStream);
  EXPECT_EQ(form(FormWish::kTiled), ProductForm::kTiled);
  EXPECT_EQ(form(FormWish::kPlain), ProductForm::kPlain);
  // Each option is about its own kind.
  const GpuSetup tiled = setup(hopper, {.experts = FormWish::kTiled});
  EXPECT_EQ(choose_linear(tiled, linear(kBf16)).plan.form, ProductForm::kByTokens);
  const ProductChoice choice = choose_experts(tiled, experts(kBf16));
  EXPECT_EQ(choice.words.why, "--expert-kernel tiled was asked for");
  // A form that decodes to BF16 also overrides W4A4, but does not go with asking for it.
  EXPECT_EQ(choose_experts(setup({12, 0}, {.experts = FormWish::kStream}), experts(kNvfp4, true))
                .plan.path,
            ProductPath::kW4A16);
  const GpuSetup both = setup({10, 0}, {.nvfp4 = PathWish::kW4A4, .linears = FormWish::kStream});
  EXPECT_EQ(refusal(ErrorCode::kUsage, [&] { choose_linear(both, linear(kNvfp4, true)); }),
            "--nvfp4-path w4a4: --linear-kernel stream computes W4A16; one of the two works");
}

TEST(KernelChoice, AWishIsNeverDropped) {
  GpuSetup hopper = setup({9, 0}, {.linears = FormWish::kTiled});
  hopper.name = "NVIDIA H200";
  EXPECT_EQ(
      refusal(ErrorCode::kUsage, [&] { choose_linear(hopper, linear(WeightFormat::kInt4Group)); }),
      "--linear-kernel tiled: cannot compute linears on NVIDIA H200 (sm_90): INT4 has no "
      "kernel on tensor cores; auto and plain work");
  const GpuSetup asking = setup({10, 0}, {.nvfp4 = PathWish::kW4A4});
  EXPECT_EQ(refusal(ErrorCode::kUsage, [&] { choose_linear(asking, linear(kNvfp4)); }),
            "--nvfp4-path w4a4: the checkpoint has no input_scale, it quantises weights alone; "
            "auto and w4a16 work");
  // It is about NVFP4 matrices; others of the model stay as they are.
  EXPECT_EQ(choose_linear(asking, linear(kBf16)).plan.path, ProductPath::kW16);
  LinearQuery odd = linear(kNvfp4, true);
  odd.cols = 2832;
  EXPECT_THAT(refusal(ErrorCode::kUsage, [&] { choose_linear(asking, odd); }),
              HasSubstr("[8192, 2832] is not a shape of the FP4 kernel"));
  EXPECT_EQ(choose_linear(setup({10, 0}), odd).plan.path, ProductPath::kW4A16);
}

TEST(KernelChoice, WishesAboutWhatTheModelDoesNotHave) {
  EXPECT_EQ(refusal(ErrorCode::kUsage,
                    [] { check_wishes({.experts = FormWish::kTiled}, {.experts = false}); }),
            "--expert-kernel tiled: the model has no experts; auto works");
  EXPECT_EQ(refusal(ErrorCode::kUsage,
                    [] { check_wishes({.nvfp4 = PathWish::kW4A16}, {.nvfp4 = false}); }),
            "--nvfp4-path w4a16: the model has no NVFP4 weights; auto works");
  check_wishes({.nvfp4 = PathWish::kW4A16, .experts = FormWish::kPlain},
               {.experts = true, .nvfp4 = true});
}

TEST(KernelChoice, OldDevicesAreRefused) {
  const auto line = refusal(ErrorCode::kDevice, [] {
    choose_linear(setup({7, 5}), linear(WeightFormat::kBF16));
  });
  EXPECT_EQ(line, "the GPU is sm_75; BF16 tensor cores need sm_80 or newer");
}

TEST(KernelChoice, ActivationsWithoutAFusedKernelAreNamed) {
  ExpertsQuery query = experts(kNvfp4, true);
  query.activation = {ActivationFunction::kSilu, Gating::kGated};
  EXPECT_THAT(choose_experts(setup({9, 0}), query).words.kernel, HasSubstr("SwiGLU fused"));
  for (const Activation& other : {Activation{ActivationFunction::kRelu2, Gating::kPlain},
                                  Activation{ActivationFunction::kGeluTanh, Gating::kPlain}}) {
    query.activation = other;
    const std::string name(to_string(other));
    const ProductChoice choice = choose_experts(setup({9, 0}), query);
    EXPECT_EQ(choice.plan.form, ProductForm::kPlain);
    EXPECT_THAT(choice.words.why, HasSubstr(name + " is not fused"));
    const GpuSetup asking = setup({9, 0}, {.experts = FormWish::kStream});
    EXPECT_THAT(refusal(ErrorCode::kUsage, [&] { choose_experts(asking, query); }),
                AllOf(HasSubstr("--expert-kernel stream"), HasSubstr(name)));
    EXPECT_EQ(choose_experts(setup({10, 0}), query).plan.path, ProductPath::kW4A16);
  }
}

TEST(KernelChoice, OddShapesTakeThePlainKernelAndSaySo) {
  const GpuSetup hopper = setup({9, 0});
  LinearQuery query = linear(kBf16);
  EXPECT_EQ(choose_linear(hopper, query).plan.form, ProductForm::kByTokens);
  query.cols = 2820;
  EXPECT_EQ(choose_linear(hopper, query).plan.form, ProductForm::kPlain);
  EXPECT_THAT(choose_linear(hopper, query).words.why, HasSubstr("[8192, 2820]"));
  query = linear(WeightFormat::kInt4Group);
  EXPECT_EQ(choose_linear(hopper, query).plan.form, ProductForm::kPlain);
  EXPECT_THAT(choose_linear(hopper, query).words.why, HasSubstr("INT4"));
  ExpertsQuery mixed = experts(kBf16);
  mixed.uniform = false;
  EXPECT_EQ(choose_experts(hopper, mixed).plan.form, ProductForm::kPlain);
}

TEST(KernelChoice, ExpertsAreDescribedByAllOfThem) {
  const auto matrix = [](int64_t rows, int64_t cols, WeightFormat format) {
    WeightMatrix m;
    m.format = format;
    m.rows = rows;
    m.cols = cols;
    m.input_scale = 0.5F;
    return m;
  };
  const ExpertMatrices expert = {matrix(704, 2816, kNvfp4), matrix(704, 2816, kNvfp4),
                                 matrix(2816, 704, kNvfp4)};
  ExpertWeights weights = {{expert, expert}};
  ExpertsQuery query = query_of(weights, kGeGlu);
  EXPECT_EQ(query.hidden, 2816);
  EXPECT_EQ(query.width, 704);
  EXPECT_TRUE(query.uniform && query.input_scale);
  weights.experts[1].down.input_scale = 0;
  EXPECT_FALSE(query_of(weights, kGeGlu).input_scale);
  weights.experts[1].gate.format = kBf16;
  EXPECT_FALSE(query_of(weights, kGeGlu).uniform);
}

TEST(KernelChoice, EveryChoiceSaysWhatAndWhyInOneLine) {
  for (const Row& row : kRows) {
    for (const bool scale : {false, true}) {
      for (const KernelChoice& words :
           {choose_experts(setup(row.device), experts(kNvfp4, scale)).words,
            choose_linear(setup(row.device), linear(WeightFormat::kFp8)).words,
            choose_attention(setup(row.device), {DType::kF8E4M3, 256, 16, 8}).words}) {
        EXPECT_FALSE(words.kernel.empty());
        EXPECT_FALSE(words.why.empty());
        EXPECT_EQ((words.kernel + words.why).find('\n'), std::string::npos);
      }
    }
  }
}

TEST(KernelChoice, ThePlanIsThatOfTheChoice) {
  for (const Row& row : kRows) {
    const ProductChoice choice = choose_linear(setup(row.device), linear(kNvfp4, true));
    const ProductPlan plan = plan_linear(setup(row.device), linear(kNvfp4, true));
    EXPECT_EQ(plan.path, choice.plan.path);
    EXPECT_EQ(plan.form, choice.plan.form);
  }
}

TEST(KernelChoice, NamesOfWishesAndGpus) {
  EXPECT_EQ(find_path_wish("w4a16"), PathWish::kW4A16);
  EXPECT_EQ(find_path_wish("W4A4"), std::nullopt);
  EXPECT_EQ(find_form_wish("stream"), FormWish::kStream);
  EXPECT_EQ(find_attention_wish("tiles"), AttentionWish::kTiles);
  EXPECT_EQ(find_attention_wish("stream"), std::nullopt);
  EXPECT_EQ(find_step_wish("apart"), StepWish::kApart);
  EXPECT_EQ(find_step_wish("whole"), StepWish::kWhole);
  EXPECT_EQ(find_step_wish("tiled"), std::nullopt);
  for (const char* name : {"sm_90", "sm90", "90", "sm_90a", "9.0"})
    EXPECT_EQ(find_compute_capability(name), (ComputeCapability{9, 0})) << name;
  EXPECT_EQ(find_compute_capability("sm_120"), (ComputeCapability{12, 0}));
  EXPECT_EQ(find_compute_capability("10.3"), (ComputeCapability{10, 3}));
  for (const char* name : {"", "9", "h200", "sm_", "sm_x0", "1.2.3", "99999"})
    EXPECT_EQ(find_compute_capability(name), std::nullopt) << name;
}

}  // namespace
}  // namespace facet
