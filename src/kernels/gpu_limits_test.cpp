#include "kernels/gpu_limits.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <string>

#include "base/error.h"
#include "kernels/kernel_choice.h"
#include "kernels/refusal_test.h"

namespace facet {
namespace {

using testing::HasSubstr;

constexpr ComputeCapability kEvery[] = {{8, 0}, {8, 9}, {9, 0}, {10, 0}, {10, 3}, {12, 0}};

GpuSetup setup(ComputeCapability device, FormWish experts = FormWish::kAuto) {
  return {device, "", false, {.experts = experts}};
}

/// Gemma-4-26B-A4B's.
GpuDimensions published() {
  GpuDimensions model;
  model.vocab_size = 262144;
  model.hidden_size = 2816;
  model.head_dim = 256;
  model.global_head_dim = 512;
  model.num_experts = 128;
  model.top_k_experts = 8;
  model.moe_intermediate_size = 704;
  model.num_hidden_layers = 30;
  model.expert_formats = {WeightFormat::kNvfp4, WeightFormat::kBF16};
  return model;
}

std::string refusal(ErrorCode code, const GpuSetup& setup, const GpuDimensions& model) {
  return test::refusal(code, [&] { check_dimensions(setup, model); });
}

TEST(GpuLimits, ThePublishedModelFitsEveryGpuInEveryForm) {
  for (const ComputeCapability device : kEvery) {
    SCOPED_TRACE(to_string(device));
    for (const FormWish form :
         {FormWish::kAuto, FormWish::kStream, FormWish::kTiled, FormWish::kPlain}) {
      EXPECT_EQ(refusal(ErrorCode::kBadCheckpoint, setup(device, form), published()), "");
    }
  }
}

struct Row {
  const char* field;
  int64_t GpuDimensions::*member;
  int64_t most;
};

constexpr Row kRows[] = {
    {"vocab_size", &GpuDimensions::vocab_size, 4194240},
    {"head_dim", &GpuDimensions::head_dim, 512},
    {"global_head_dim", &GpuDimensions::global_head_dim, 512},
    {"num_experts", &GpuDimensions::num_experts, 1024},
    {"top_k_experts", &GpuDimensions::top_k_experts, 32},
};

TEST(GpuLimits, EachFieldIsRefusedFromItsLimitOnAndNamed) {
  for (const Row& row : kRows) {
    SCOPED_TRACE(row.field);
    GpuDimensions model = published();
    model.num_experts = 64;
    model.*row.member = row.most;
    EXPECT_EQ(refusal(ErrorCode::kBadCheckpoint, setup({9, 0}), model), "");
    model.*row.member = row.most + 1;
    EXPECT_EQ(refusal(ErrorCode::kBadCheckpoint, setup({9, 0}), model),
              std::string("config.json: field ") + row.field + ": found " +
                  std::to_string(row.most + 1) + ", wanted at most " + std::to_string(row.most) +
                  " on a GPU; --backend cpu takes it");
  }
}

TEST(GpuLimits, TheRouterKeepsARowInSharedMemory) {
  struct Limit {
    ComputeCapability device;
    int64_t most;
  };
  for (const Limit& limit :
       {Limit{{8, 0}, 41472}, Limit{{8, 9}, 25088}, Limit{{9, 0}, 57856}, Limit{{12, 0}, 25088}}) {
    GpuDimensions model = published();
    model.hidden_size = limit.most;
    EXPECT_EQ(refusal(ErrorCode::kBadCheckpoint, setup(limit.device), model), "");
    model.hidden_size = limit.most + 1;
    EXPECT_THAT(refusal(ErrorCode::kBadCheckpoint, setup(limit.device), model),
                HasSubstr("field hidden_size: found " + std::to_string(limit.most + 1) +
                          ", wanted at most " + std::to_string(limit.most) + " with experts on " +
                          to_string(limit.device)));
    model.num_experts = 0;  // no router
    EXPECT_EQ(refusal(ErrorCode::kBadCheckpoint, setup(limit.device), model), "");
  }
}

TEST(GpuLimits, PerLayerInputsAreOneMatrixOfAllLayers) {
  GpuDimensions model = published();
  model.hidden_size_per_layer_input = 139808;
  EXPECT_EQ(refusal(ErrorCode::kBadCheckpoint, setup({9, 0}), model), "");
  model.hidden_size_per_layer_input = 139809;
  EXPECT_THAT(refusal(ErrorCode::kBadCheckpoint, setup({9, 0}), model),
              HasSubstr("field hidden_size_per_layer_input: found 139809, wanted at most 139808 "
                        "for 30 layers on a GPU"));
}

TEST(GpuLimits, ExpertsThatDoNotFitCannotBeStreamedOnRequest) {
  GpuDimensions model = published();
  model.hidden_size = 52000;
  EXPECT_EQ(refusal(ErrorCode::kUsage, setup({9, 0}), model), "");  // by itself it takes tiles
  EXPECT_EQ(refusal(ErrorCode::kUsage, setup({9, 0}, FormWish::kStream), model),
            "--expert-kernel stream: cannot compute experts on sm_90: 8 experts [704, 52000] of a "
            "row do not fit in shared memory; auto, tiled and plain work");
  // A row of 10000: 20 KiB, beside the rings of BF16 too much for 99 KiB alone.
  model.hidden_size = 10000;
  EXPECT_EQ(refusal(ErrorCode::kUsage, setup({9, 0}, FormWish::kStream), model), "");
  EXPECT_NE(refusal(ErrorCode::kUsage, setup({8, 9}, FormWish::kStream), model), "");
  model.expert_formats = {WeightFormat::kFp8};  // never streamed; refused for its format
  model.top_k_experts = 1;
  EXPECT_EQ(refusal(ErrorCode::kUsage, setup({9, 0}, FormWish::kStream), model), "");
}

// What kernels declare themselves counts too: without it four rows of BF16 would be tried on 99
// KiB.
TEST(GpuLimits, RowsOfExpertsThatShareAPass) {
  const auto most_rows = [](WeightFormat format, int64_t shared) {
    int64_t rows = 0;
    while (experts_stream_fits({format, 2816, rows + 1, 8}, shared)) ++rows;
    return rows;
  };
  EXPECT_EQ(most_rows(WeightFormat::kBF16, 227 * 1024), 8);
  EXPECT_EQ(most_rows(WeightFormat::kNvfp4, 227 * 1024), 8);
  EXPECT_EQ(most_rows(WeightFormat::kBF16, 99 * 1024), 3);
  EXPECT_EQ(most_rows(WeightFormat::kNvfp4, 99 * 1024), 6);
}

TEST(GpuLimits, WidestRowsThatAreStreamed) {
  EXPECT_TRUE(linear_stream_fits(WeightFormat::kBF16, 72640, 227 * 1024));
  EXPECT_FALSE(linear_stream_fits(WeightFormat::kBF16, 72641, 227 * 1024));
  EXPECT_TRUE(linear_stream_fits(WeightFormat::kBF16, 7104, 99 * 1024));
  EXPECT_FALSE(linear_stream_fits(WeightFormat::kBF16, 7105, 99 * 1024));
  EXPECT_TRUE(linear_stream_fits(WeightFormat::kNvfp4, 21504, 99 * 1024));
}

}  // namespace
}  // namespace facet
