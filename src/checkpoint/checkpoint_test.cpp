#include "checkpoint/checkpoint.h"

#include <filesystem>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "checkpoint/safetensors_writer.h"
#include "tests/support.h"

namespace facet {
namespace {

using testing::HasSubstr;
using testing::Not;

constexpr const char* kIndex = "model.safetensors.index.json";

/// A folder with a config and whatever the test adds.
class CheckpointTest : public testing::Test {
 protected:
  CheckpointTest() { dir_.write("config.json", R"({"model_type":"x"})"); }

  /// A safetensors file of U8 tensors of two bytes each.
  void write_shard(const std::string& file, const std::vector<std::string>& names) {
    SafetensorsWriter writer;
    for (const std::string& name : names) writer.declare(name, DType::kU8, {2});
    writer.write(dir_.path(file),
                 [](const auto&, const auto& sink) { sink(std::as_bytes(std::span("ab", 2))); });
  }

  void write_index(const std::string& weight_map) {
    dir_.write(kIndex, R"({"metadata":{"total_size":1},"weight_map":)" + weight_map + "}");
  }

  std::string refusal() {
    try {
      const Checkpoint checkpoint(dir_.path());
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kBadCheckpoint);
      EXPECT_THAT(error.place(), testing::StartsWith(dir_.path()));
      return error.what();
    }
    ADD_FAILURE() << "accepted";
    return {};
  }

  test::TempDir dir_;
};

TEST_F(CheckpointTest, ReadsOneFile) {
  write_shard("model.safetensors", {"b", "a"});
  dir_.write("generation_config.json", R"({"top_k":64})");
  const Checkpoint opened(dir_.path());
  Checkpoint moved = [&] { return Checkpoint(dir_.path()); }();
  const Checkpoint checkpoint(std::move(moved));
  EXPECT_EQ(checkpoint.folder(), dir_.path());
  EXPECT_EQ(checkpoint.config().at("model_type").as_string(), "x");
  EXPECT_EQ(checkpoint.generation_config()->at("top_k").as_int64(), 64);
  EXPECT_FALSE(checkpoint.hf_quant_config().has_value());
  ASSERT_EQ(checkpoint.tensors().size(), 2u);
  EXPECT_EQ(checkpoint.tensors()[0]->name, "a");
  EXPECT_EQ(checkpoint.find("b")->file, "model.safetensors");
  EXPECT_EQ(checkpoint.find("c"), nullptr);
  EXPECT_EQ(checkpoint.find(""), nullptr);
  EXPECT_EQ(checkpoint.file_bytes(),
            static_cast<int64_t>(std::filesystem::file_size(dir_.path("model.safetensors"))));
}

TEST_F(CheckpointTest, ReadsShards) {
  write_shard("s-1.safetensors", {"c", "a"});
  write_shard("s-2.safetensors", {"b"});
  write_shard("stray.safetensors", {"a"});
  dir_.write("model.safetensors", "not looked at, because there is an index");
  write_index(R"({"a":"s-1.safetensors","b":"s-2.safetensors","c":"s-1.safetensors"})");
  const Checkpoint checkpoint(dir_.path());
  ASSERT_EQ(checkpoint.tensors().size(), 3u);
  EXPECT_EQ(checkpoint.find("b")->file, "s-2.safetensors");
  EXPECT_EQ(checkpoint.find("c")->file, "s-1.safetensors");
  EXPECT_EQ(static_cast<char>(checkpoint.find("c")->bytes[1]), 'b');
}

TEST_F(CheckpointTest, LinksAreFollowedAndDeadOnesReported) {
  write_shard("blob", {"a"});
  std::filesystem::create_symlink("blob", dir_.path("model.safetensors"));
  EXPECT_EQ(Checkpoint(dir_.path()).find("a")->file, "model.safetensors");
  std::filesystem::create_symlink("gone", dir_.path(kIndex));
  try {
    const Checkpoint checkpoint(dir_.path());
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kIo);
    EXPECT_THAT(error.what(), HasSubstr(std::string(kIndex) + ": No such file"));
  }
}

TEST_F(CheckpointTest, WhatIsMissingIsSaidPlainly) {
  EXPECT_EQ(refusal(), dir_.path() +
                           ": holds no weights: looked for model.safetensors.index.json and "
                           "model.safetensors");
  std::filesystem::remove(dir_.path("config.json"));
  EXPECT_THAT(refusal(), HasSubstr("holds no config.json"));
  EXPECT_THROW(Checkpoint(dir_.path("nowhere")), Error);
  try {
    const Checkpoint checkpoint(dir_.path("nowhere"));
  } catch (const Error& error) {
    EXPECT_EQ(error.what(), dir_.path("nowhere") + ": there is no such folder");
  }
  dir_.write("file", "x");
  try {
    const Checkpoint checkpoint(dir_.path("file"));
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("file: is not a folder"));
  }
}

TEST_F(CheckpointTest, EveryJsonFileMustParse) {
  write_shard("model.safetensors", {"a"});
  for (const char* name : {"generation_config.json", "hf_quant_config.json", "config.json"}) {
    dir_.write(name, R"({"a":1,"a":2})");
    EXPECT_THAT(refusal(), HasSubstr(std::string(name) + ": duplicate name \"a\""));
    dir_.write(name, "{}");
  }
  EXPECT_NO_THROW(Checkpoint(dir_.path()));
}

TEST_F(CheckpointTest, ConfigAndIndexAreBounded) {
  write_shard("model.safetensors", {"a"});
  write_index("{}");
  std::filesystem::resize_file(dir_.path(kIndex), (64 << 20) + 1);
  EXPECT_THAT(refusal(), HasSubstr("more than the 67108864 allowed"));
  std::filesystem::resize_file(dir_.path("config.json"), (16 << 20) + 1);
  EXPECT_THAT(refusal(), HasSubstr("more than the 16777216 allowed"));
}

TEST_F(CheckpointTest, ADamagedFileIsNamed) {
  dir_.write("model.safetensors", "x");
  EXPECT_THAT(refusal(), HasSubstr("model.safetensors: 1 bytes are too few"));
}

TEST_F(CheckpointTest, AnIndexWithoutMapIsRefused) {
  dir_.write(kIndex, R"({"metadata":{}})");
  EXPECT_THAT(refusal(), HasSubstr("index.json: field weight_map: missing"));
  dir_.write(kIndex, R"({"weight_map":["a"]})");
  EXPECT_THAT(refusal(), HasSubstr("field weight_map: found an array of 1"));
  dir_.write(kIndex, R"({"weight_map":{}})");
  EXPECT_THAT(refusal(), HasSubstr("field weight_map: names no tensor"));
  dir_.write(kIndex, R"([])");
  EXPECT_THAT(refusal(), HasSubstr("index.json: found an array of 0 at the top level"));
  dir_.write(kIndex, R"({"weight_map":{"a":"x","a":"y"}})");
  EXPECT_THAT(refusal(), HasSubstr("index.json: duplicate name \"a\""));
}

TEST_F(CheckpointTest, FileNamesMustStayInTheFolder) {
  write_shard("model.safetensors", {"a"});
  write_shard("..evil", {"a"});
  std::filesystem::create_directory(dir_.path("sub"));
  write_shard("sub/x", {"a"});
  for (const std::string name : {"sub/x", "../x", "/etc/passwd", "..", ".", "", "sub\\\\x",
                                 "..evil", "model.safetensors\\u0000"}) {
    write_index("{\"a\":\"" + name + "\"}");
    EXPECT_THAT(refusal(), HasSubstr("1 fault:\nbad      ")) << name;
    EXPECT_THAT(refusal(), HasSubstr("may only name files of its own folder")) << name;
  }
}

TEST_F(CheckpointTest, AllFaultsOfAnIndexComeTogether) {
  write_shard("s-1", {"a", "b", "twice"});
  write_shard("s-2", {"c", "twice", "unlisted"});
  dir_.write("s-3", "damaged");
  std::filesystem::create_directory(dir_.path("s-5"));
  write_index(R"({"a":"s-1","b":"s-2","c":"s-2","twice":"s-1","ghost":"s-1","d":"s-3","e":"s-4",
                  "f":"../s","g":7,"h":"s-5"})");
  const std::string text = refusal();
  EXPECT_THAT(text, HasSubstr(": 10 faults:\n"));
  EXPECT_THAT(text, HasSubstr("\nmissing  ghost: wanted in s-1, where weight_map puts it"));
  EXPECT_THAT(text, HasSubstr("\nextra    b: in s-1, but weight_map puts it in s-2"));
  EXPECT_THAT(text, HasSubstr("\nmissing  b: wanted in s-2, where weight_map puts it"));
  EXPECT_THAT(text, HasSubstr("\nextra    twice: in s-2, but weight_map puts it in s-1"));
  EXPECT_THAT(text, HasSubstr("\nextra    unlisted: in s-2, but not in weight_map"));
  EXPECT_THAT(text, HasSubstr("\nbad      s-3: 7 bytes are too few"));
  EXPECT_THAT(text, HasSubstr("\nmissing  s-4: wanted as a file of the folder"));
  EXPECT_THAT(text, HasSubstr("\nbad      ../s: "));
  EXPECT_THAT(text, HasSubstr("\nbad      g: its value in weight_map is not a file name"));
  EXPECT_THAT(text, HasSubstr("\nbad      s-5: not a regular file"));
  EXPECT_THAT(text, Not(HasSubstr(" d:")));
}

TEST_F(CheckpointTest, ATensorInTwoFilesIsAFaultEvenWhenUnlisted) {
  write_shard("s-1", {"a", "x"});
  write_shard("s-2", {"b", "x"});
  write_index(R"({"a":"s-1","b":"s-2"})");
  EXPECT_THAT(refusal(), HasSubstr("extra    x: in s-1"));
  EXPECT_THAT(refusal(), HasSubstr("extra    x: in s-2"));
}

TEST(CheckpointReference, EveryReferenceFileOpens) {
  FACET_REQUIRE_SHARED(goldens, "goldens");
  FACET_REQUIRE_SHARED(fable, "fable");
  std::vector<std::filesystem::path> folders = {fable};
  for (const auto& entry : std::filesystem::directory_iterator(goldens)) {
    if (entry.is_directory()) folders.push_back(entry.path());
  }
  EXPECT_GT(folders.size(), 1u);
  for (const auto& folder : folders) {
    SCOPED_TRACE(folder);
    const Checkpoint checkpoint(folder.string());
    EXPECT_GT(checkpoint.tensors().size(), 10u);
    for (const auto& entry : std::filesystem::directory_iterator(folder)) {
      if (entry.path().extension() != ".safetensors") continue;
      const SafetensorsFile file(entry.path().string());
      EXPECT_FALSE(file.tensors().empty());
    }
  }
}

}  // namespace
}  // namespace facet
