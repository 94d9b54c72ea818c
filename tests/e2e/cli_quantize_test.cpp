// `quantize --format fp8-dynamic` as a user meets it.

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "checkpoint/checkpoint.h"
#include "quant/float_formats.h"
#include "tests/e2e/process.h"
#include "tests/support.h"

namespace facet {
namespace {

using test::Finished;
using test::golden;
using test::kBadCheckpoint;
using test::kUsage;
using test::run_facet;
using testing::HasSubstr;

TEST(CliQuantize, Fp8DynamicIsThePublishedLayout) {
  const test::TempDir dir;
  const std::string source = golden("moe-bf16-fused");
  const Finished run = run_facet({"quantize", source, dir.path("out"), "--format", "fp8-dynamic"});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  EXPECT_EQ(run_facet({"check", dir.path("out")}).exit_code, 0);
  const Checkpoint written(dir.path("out"));
  // The published checkpoint's config, member by member.
  EXPECT_EQ(written.config().at("quantization_config"),
            Checkpoint(golden("moe-fp8-dynamic")).config().at("quantization_config"));
  // Its tensors: the same modules with the same dtypes and ranks.
  const Checkpoint published(golden("moe-fp8-dynamic"));
  ASSERT_EQ(written.tensors().size(), published.tensors().size());
  for (const StoredTensor* tensor : published.tensors()) {
    const StoredTensor* mine = written.find(tensor->name);
    ASSERT_NE(mine, nullptr) << tensor->name;
    EXPECT_EQ(mine->dtype, tensor->dtype) << tensor->name;
    EXPECT_EQ(mine->shape, tensor->shape) << tensor->name;
  }
}

TEST(CliQuantize, Fp8DynamicRoundsToTheNearestCode) {
  const test::TempDir dir;
  const std::string source = golden("moe-bf16-fused");
  ASSERT_EQ(run_facet({"quantize", source, dir.path("out"), "--format", "fp8-dynamic"}).exit_code,
            0);
  const Checkpoint plain(source);
  const Checkpoint written(dir.path("out"));
  const std::string module = "model.language_model.layers.1.self_attn.o_proj";
  const StoredTensor* values = plain.find(module + ".weight");
  const StoredTensor* codes = written.find(module + ".weight");
  const StoredTensor* scales = written.find(module + ".weight_scale");
  ASSERT_TRUE(values != nullptr && codes != nullptr && scales != nullptr);
  const int64_t cols = values->shape[1];
  for (int64_t r = 0; r < values->shape[0]; ++r) {
    const float scale = read_float(scales->bytes.data(), DType::kBF16, r);
    for (int64_t c = 0; c < cols; ++c) {
      const float wanted = read_float(values->bytes.data(), DType::kBF16, r * cols + c);
      const float found = read_float(codes->bytes.data(), DType::kF8E4M3, r * cols + c) * scale;
      // Half a step: 1/16 of the value, or of the smallest normal number.
      ASSERT_NEAR(found, wanted, std::max(std::fabs(wanted) / 16, scale * 0x1p-10F) * 1.001F);
    }
  }
  // Router and embedding as they were.
  for (const char* name : {"layers.1.router.proj.weight", "embed_tokens.weight"}) {
    const std::string full = std::string("model.language_model.") + name;
    EXPECT_TRUE(std::ranges::equal(written.find(full)->bytes, plain.find(full)->bytes)) << name;
  }
}

TEST(CliQuantize, Fp8DynamicTakesPerLayerEmbeddingsAndSharedCaches) {
  const test::TempDir dir;
  const std::string source = golden("dense-ple-kvshared-bf16");
  const Finished run = run_facet({"quantize", source, dir.path("out"), "--format", "fp8-dynamic"});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  const Checkpoint plain(source);
  const Checkpoint written(dir.path("out"));
  for (const StoredTensor* tensor : plain.tensors()) {
    const StoredTensor* mine = written.find(tensor->name);
    ASSERT_NE(mine, nullptr) << tensor->name;
    const bool linear = tensor->name.find("self_attn.") != std::string::npos ||
                        tensor->name.find(".mlp.") != std::string::npos;
    const bool quantised = linear && tensor->name.ends_with("_proj.weight");
    EXPECT_EQ(mine->dtype, quantised ? DType::kF8E4M3 : DType::kBF16) << tensor->name;
  }
  const Finished generated = run_facet({"generate", dir.path("out"), "--ids", "2,5,9"});
  EXPECT_EQ(generated.exit_code, 0) << generated.err;
}

TEST(CliQuantize, Fp8DynamicRefusals) {
  const test::TempDir dir;
  dir.write("text", "Once upon a time.");
  const Finished calibrated =
      run_facet({"quantize", golden("moe-bf16-fused"), dir.path("out"), "--format", "fp8-dynamic",
                 "--calibrate", dir.path("text")});
  EXPECT_EQ(calibrated.exit_code, kUsage);
  EXPECT_THAT(calibrated.err, HasSubstr("--calibrate"));
  EXPECT_FALSE(std::filesystem::exists(dir.path("out")));
  const Finished again = run_facet(
      {"quantize", golden("moe-fp8-dynamic"), dir.path("out"), "--format", "fp8-dynamic"});
  EXPECT_EQ(again.exit_code, kBadCheckpoint);
  EXPECT_THAT(again.err, HasSubstr("quantised already"));
}

}  // namespace
}  // namespace facet
