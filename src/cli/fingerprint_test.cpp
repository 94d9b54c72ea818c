#include "cli/fingerprint.h"

#include <chrono>
#include <filesystem>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/checkpoint_editor.h"
#include "tests/support.h"

namespace facet::cli {
namespace {

using test::CheckpointEditor;
using test::TempDir;

class Fingerprint : public testing::Test {
 protected:
  std::string save(const std::string& name, int32_t shards = 1) const {
    editor_.save(dir_.path(name), shards);
    return dir_.path(name);
  }
  static uint64_t digest(const std::string& folder) {
    ModelOptions options;
    options.model = folder;
    options.threads = 2;
    LoadedModel loaded(options, 1);
    const TensorSums sums = loaded.warm_up();
    EXPECT_THAT(sums, testing::Each(testing::Ne(std::nullopt)));
    return checkpoint_digest(loaded.checkpoint(), sums);
  }

  TempDir dir_;
  CheckpointEditor editor_{test::data_path("goldens/dense-nvfp4-mlp")};
};

TEST_F(Fingerprint, EveryBitOfEveryTensorCounts) {
  const uint64_t one = digest(save("one"));
  EXPECT_EQ(digest(save("same")), one);
  EXPECT_EQ(digest(save("shards", 3)), one) << "the cut into files changes no answer";
  for (auto& [name, tensor] : editor_.tensors()) {
    if (tensor.dtype != DType::kBF16) continue;
    // The last bit of a mantissa in the middle.
    char& byte = tensor.bytes[tensor.bytes.size() / 4 * 2];
    byte = static_cast<char>(byte ^ 1);
    EXPECT_NE(digest(save("bit")), one) << name;
    byte = static_cast<char>(byte ^ 1);
  }
  EXPECT_EQ(digest(save("again")), one);
}

TEST_F(Fingerprint, TheSmallFilesCount) {
  const uint64_t one = digest(save("model"));
  dir_.write("model/generation_config.json", R"({"temperature":0.5})");
  const uint64_t other = digest(dir_.path("model"));
  EXPECT_NE(other, one);
  dir_.write("model/chat_template.jinja", "{{ messages }}");
  EXPECT_NE(digest(dir_.path("model")), other);
}

TEST_F(Fingerprint, WhatIsNotReadCountsByItsFile) {
  const std::string folder = save("model");
  const auto unread = [&] {
    const Checkpoint checkpoint(folder);
    return checkpoint_digest(checkpoint, TensorSums(checkpoint.tensors().size()));
  };
  const uint64_t one = unread();
  EXPECT_EQ(unread(), one);
  EXPECT_NE(one, digest(folder));
  const std::filesystem::path file = folder + "/model.safetensors";
  std::filesystem::last_write_time(
      file, std::filesystem::last_write_time(file) + std::chrono::milliseconds(1));
  EXPECT_NE(unread(), one);
}

TEST(NumericMode, NamesWhatChangesAnswers) {
  ServeOptions options;
  const auto mode = [&] { return numeric_mode(options, DType::kBF16, 100); };
  const std::string plain = mode();
  options.model.threads = 3;
  EXPECT_EQ(mode(), plain);
  options.model.cpu_isa = "baseline";
  EXPECT_NE(mode(), plain);
  options.model.cpu_isa = "auto";
  options.thinking = "on";
  EXPECT_NE(mode(), plain);
  EXPECT_NE(numeric_mode({}, DType::kF8E4M3, 100), plain);
  EXPECT_NE(numeric_mode({}, DType::kBF16, 99), plain);
  EXPECT_EQ(numeric_mode({}, DType::kBF16, 100), plain);
  EXPECT_THAT(fingerprint_of(0x1234, plain),
              testing::ContainsRegex("^fp_.+-[0-9a-f]{8}_0000000000001234_[0-9a-f]{8}$"));
}

}  // namespace
}  // namespace facet::cli
