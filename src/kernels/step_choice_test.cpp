#include "kernels/step_choice.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kernels/refusal_test.h"

namespace facet {
namespace {

using test::refusal;
using testing::AllOf;
using testing::HasSubstr;

/// Gemma 4 26B-A4B in NVFP4 experts and BF16 (config.json of NVIDIA's checkpoint).
StepQuery gemma() {
  return {.widths = {2816, 2112, 704, 128, 8},
          .kinds = {{256, 16, 8, 1024, 128}, {512, 16, 2, 0, 64}},
          .matrices = {WeightFormat::kBF16},
          .experts = {WeightFormat::kNvfp4},
          .kv = DType::kBF16};
}

GpuSetup hopper(const KernelWishes& wishes = {}) { return {{9, 0}, "NVIDIA H200", false, wishes}; }

TEST(StepChoice, TheModelThatItWasMadeForIsOneLaunchOnHopper) {
  const KernelChoice choice = choose_step(hopper(), gemma());
  EXPECT_THAT(choice.kernel, HasSubstr("one launch for decode steps of up to 8 streams"));
  EXPECT_THAT(choice.why, AllOf(HasSubstr("65536 positions with one stream"),
                                HasSubstr("32768 with up to 4"), HasSubstr("2048 with more")));
  for (int32_t tokens = 1; tokens <= kMostTokens; ++tokens)
    for (const StepKind& kind : gemma().kinds) EXPECT_TRUE(step_kind_fits(kind, tokens)) << tokens;
}

TEST(StepChoice, AWishIsMetOrRefused) {
  EXPECT_THAT(choose_step(hopper({.steps = StepWish::kWhole}), gemma()).why,
              AllOf(HasSubstr("--step-kernel whole was asked for"), HasSubstr("65536")));
  const KernelChoice apart = choose_step(hopper({.steps = StepWish::kApart}), gemma());
  EXPECT_THAT(apart.kernel, HasSubstr("each part of a layer"));
  EXPECT_EQ(apart.why, "--step-kernel apart was asked for");
  StepQuery fp8 = gemma();
  fp8.kv = DType::kF8E4M3;
  EXPECT_EQ(
      refusal(ErrorCode::kUsage, [&] { choose_step(hopper({.steps = StepWish::kWhole}), fp8); }),
      "--step-kernel whole: the cache is F8_E4M3, one launch takes BF16 (--kv-dtype bf16); auto "
      "and apart work");
}

TEST(StepChoice, WhateverItDoesNotTakeIsNamed) {
  const auto why = [](const GpuSetup& setup, const auto& change) {
    StepQuery query = gemma();
    change(query);
    const KernelChoice choice = choose_step(setup, query);
    EXPECT_THAT(choice.kernel, HasSubstr("each part of a layer"));
    EXPECT_EQ(choice.why.find('\n'), std::string::npos);
    return choice.why;
  };
  const auto nothing = [](StepQuery&) {};
  EXPECT_THAT(why({{8, 0}}, nothing), HasSubstr("Hopper (sm_90)"));
  EXPECT_THAT(why({{10, 0}}, nothing), HasSubstr("Hopper (sm_90)"));
  EXPECT_EQ(why(hopper({.attention = AttentionWish::kPlain}), nothing),
            "--attention-kernel plain was asked for");
  EXPECT_EQ(why(hopper({.linears = FormWish::kTiled}), nothing),
            "--linear-kernel tiled was asked for");
  EXPECT_EQ(why(hopper({.experts = FormWish::kStream}), nothing),
            "--expert-kernel stream was asked for");
  EXPECT_THAT(why(hopper(), [](StepQuery& q) { q.experts.clear(); }), HasSubstr("with experts"));
  EXPECT_THAT(why(hopper(), [](StepQuery& q) { q.experts = {WeightFormat::kBF16}; }),
              HasSubstr("experts are BF16, one launch takes NVFP4"));
  EXPECT_THAT(why(hopper(), [](StepQuery& q) { q.matrices.insert(WeightFormat::kFp8); }),
              HasSubstr("matrices are BF16 and FP8, one launch takes BF16"));
  EXPECT_THAT(why(hopper(), [](StepQuery& q) { q.gating = Gating::kPlain; }), HasSubstr("gated"));
  EXPECT_THAT(why(hopper(), [](StepQuery& q) { q.own_caches = false; }), HasSubstr("cache"));
  EXPECT_THAT(why(hopper(), [](StepQuery& q) { q.per_layer_inputs = true; }),
              HasSubstr("inputs of their own"));
  const auto sizes = HasSubstr("sizes of Gemma 4 26B-A4B");
  EXPECT_THAT(why(hopper(), [](StepQuery& q) { q.widths.hidden = 2560; }), sizes);
  EXPECT_THAT(why(hopper(), [](StepQuery& q) { q.widths.expert_width = 768; }), sizes);
  EXPECT_THAT(why(hopper(), [](StepQuery& q) { q.widths.experts = 256; }), sizes);
  EXPECT_THAT(why(hopper(), [](StepQuery& q) { q.widths.top_k = 9; }), sizes);
  EXPECT_THAT(why(hopper(), [](StepQuery& q) { q.kinds[0].head_dim = 128; }), sizes);
  EXPECT_THAT(why(hopper(), [](StepQuery& q) { q.kinds[0].kv_heads = 2; }), sizes);
  EXPECT_THAT(why(hopper(), [](StepQuery& q) { q.kinds[1].angles = 256; }), sizes);
}

}  // namespace
}  // namespace facet
