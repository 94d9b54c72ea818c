#include "model/gemma4/synth.h"

#include <filesystem>
#include <fmt/core.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <limits>
#include <map>

#include "base/error.h"
#include "checkpoint/checkpoint.h"
#include "tests/support.h"

namespace facet::gemma4 {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

constexpr const char* kGoldens[] = {"moe-nvfp4-modelopt", "moe-mixed-fp8-nvfp4", "dense-int4-g32",
                                    "dense-ple-kvshared-bf16"};

SynthPlan plan_like(const std::string& golden, uint64_t seed) {
  const Checkpoint checkpoint(test::data_path("goldens/" + golden));
  const Gemma4Config config = Gemma4Config::parse(checkpoint.config());
  return plan_synth(config, QuantConfig::parse(checkpoint.config(), checkpoint.hf_quant_config()),
                    *find_activation(config.hidden_activation), seed);
}

/// All files of a folder by name.
std::map<std::string, std::string> files_of(const std::string& folder) {
  std::map<std::string, std::string> files;
  for (const auto& entry : fs::directory_iterator(folder)) {
    files[entry.path().filename()] = test::read_text(entry.path());
  }
  return files;
}

std::map<std::string, std::string> written(const SynthPlan& plan,
                                           int32_t threads,
                                           int64_t shard_bytes = kShardBytes) {
  const test::TempDir dir;
  WorkerPool pool(threads);
  int64_t last = 0;
  write_synth(plan, dir.path(), shard_bytes, pool, [&](int64_t done) {
    EXPECT_GT(done, last);
    last = done;
  });
  EXPECT_EQ(last, plan.bytes);
  return files_of(dir.path());
}

TEST(Synth, TheSeedAloneDecidesEveryBit) {
  for (const char* golden : kGoldens) {
    SCOPED_TRACE(golden);
    const auto one = written(plan_like(golden, 7), 1);
    EXPECT_EQ(one.size(), 1u);
    EXPECT_TRUE(written(plan_like(golden, 7), 3) == one) << "three threads";
    EXPECT_FALSE(written(plan_like(golden, 8), 1) == one) << "another seed";
  }
}

TEST(Synth, ShardsHoldTheSameTensorsAsOneFile) {
  const std::string golden = test::data_path("goldens/moe-nvfp4-modelopt");
  const SynthPlan plan = plan_like("moe-nvfp4-modelopt", 3);
  const test::TempDir dir;
  WorkerPool pool(1);
  fs::create_directories(dir.path("whole"));
  fs::create_directories(dir.path("shards"));
  write_synth(plan, dir.path("whole"), kShardBytes, pool, [](int64_t) {});
  write_synth(plan, dir.path("shards"), 100'000, pool, [](int64_t) {});
  for (const char* name : {"whole", "shards"}) {
    fs::copy_file(golden + "/config.json", dir.path(name) + "/config.json");
  }
  const Checkpoint whole(dir.path("whole"));
  const Checkpoint shards(dir.path("shards"));
  EXPECT_GT(files_of(dir.path("shards")).size(), 5u);
  EXPECT_TRUE(fs::exists(dir.path("shards/model.safetensors.index.json")));
  ASSERT_EQ(shards.tensors().size(), plan.tensors.size());
  for (const StoredTensor* tensor : whole.tensors()) {
    const StoredTensor* other = shards.find(tensor->name);
    ASSERT_NE(other, nullptr) << tensor->name;
    EXPECT_TRUE(std::equal(tensor->bytes.begin(), tensor->bytes.end(), other->bytes.begin(),
                           other->bytes.end()))
        << tensor->name;
  }
}

TEST(Synth, AFailureLeavesNoShardBehind) {
  const SynthPlan plan = plan_like("moe-nvfp4-modelopt", 3);
  const test::TempDir dir;
  WorkerPool pool(1);
  const auto break_off = [&](int64_t done) {
    if (done > plan.bytes / 2) throw Error(ErrorCode::kIo, "the disk is gone");
  };
  EXPECT_THROW(write_synth(plan, dir.path(), 100'000, pool, break_off), Error);
  EXPECT_TRUE(fs::is_empty(dir.path()));
}

TEST(Synth, AFolderThatIsNotThereIsNamed) {
  const test::TempDir dir;
  WorkerPool pool(1);
  try {
    write_synth(plan_like("dense-int4-g32", 0), dir.path("nowhere"), kShardBytes, pool,
                [](int64_t) {});
    ADD_FAILURE() << "written";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kIo);
    EXPECT_THAT(error.what(), HasSubstr("nowhere/model.safetensors"));
  }
}

TEST(Synth, TooLittleRoomIsRefusedWithBothNumbers) {
  const test::TempDir dir;
  EXPECT_NO_THROW(check_room(dir.path(), 1));
  try {
    check_room(dir.path(), std::numeric_limits<int64_t>::max());
    ADD_FAILURE() << "accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kIo);
    EXPECT_THAT(error.what(),
                testing::AllOf(HasSubstr("no room: "), HasSubstr(" needed, "), HasSubstr(" free")));
  }
}

}  // namespace
}  // namespace facet::gemma4
