#include "tests/checkpoint_editor.h"

#include <boost/json/serialize.hpp>
#include <filesystem>
#include <gtest/gtest.h>

#include "checkpoint/checkpoint.h"
#include "checkpoint/safetensors_writer.h"
#include "tests/support.h"

namespace facet::test {
namespace {

/// A checkpoint of an F32 scalar, a BF16 matrix and an empty tensor, with its JSON files.
class CheckpointEditorTest : public testing::Test {
 protected:
  CheckpointEditorTest() {
    dir_.write("in/config.json", R"({"eps":1e-06,"text_config":{"layers":2}})");
    dir_.write("in/hf_quant_config.json", R"({"quantization":{}})");
    dir_.write("in/generation_config.json", R"({"top_k":64})");
    dir_.write("in/tokenizer.json", "{}");
    dir_.write("in/README.md", "text");
    SafetensorsWriter writer(SafetensorsWriter::Metadata{{"format", "pt"}});
    writer.declare("scale", DType::kF32, {});
    writer.declare("weight", DType::kBF16, {2, 2});
    writer.declare("empty", DType::kU8, {0});
    writer.write(dir_.path("in/model.safetensors"), [](const auto& tensor, const auto& sink) {
      const std::string bytes = "\1\2\3\4\5\6\7\x08";
      sink(std::as_bytes(std::span(bytes).first(static_cast<size_t>(tensor.bytes))));
    });
  }

  TempDir dir_;
};

TEST_F(CheckpointEditorTest, SavesWhatItReadByteForByte) {
  CheckpointEditor editor(dir_.path("in"));
  editor.save(dir_.path("out"));
  EXPECT_EQ(read_text(dir_.path("out/model.safetensors")),
            read_text(dir_.path("in/model.safetensors")));
  EXPECT_EQ(read_text(dir_.path("out/tokenizer.json")), "{}");
  EXPECT_FALSE(std::filesystem::exists(dir_.path("out/README.md")));
  const Checkpoint out(dir_.path("out"));
  EXPECT_EQ(out.config().at("eps").as_double(), 1e-06);
  EXPECT_TRUE(out.hf_quant_config().has_value());
  EXPECT_TRUE(out.generation_config().has_value());
}

TEST_F(CheckpointEditorTest, ChangesReachTheFile) {
  CheckpointEditor editor(dir_.path("in"));
  editor.rename("weight", "renamed");
  editor.erase("empty");
  editor.set_scalar_f32("scale", 2.5F);
  editor.tensor("renamed").shape = {4};
  editor.config()["text_config"].as_object()["layers"] = 3;
  editor.hf_quant().reset();
  editor.save(dir_.path("out"));
  const Checkpoint out(dir_.path("out"));
  EXPECT_EQ(out.tensors().size(), 2u);
  EXPECT_EQ(out.find("renamed")->shape, Shape{4});
  EXPECT_EQ(out.config().at("text_config").at("layers").as_int64(), 3);
  EXPECT_FALSE(out.hf_quant_config().has_value());
  EXPECT_EQ(CheckpointEditor(dir_.path("out")).scalar_f32("scale"), 2.5F);
}

TEST_F(CheckpointEditorTest, ShardsHoldTheSameTensors) {
  CheckpointEditor editor(dir_.path("in"));
  for (const int32_t shards : {2, 3, 5, 1}) {
    editor.save(dir_.path("out"), shards);
    CheckpointEditor back(dir_.path("out"));
    ASSERT_EQ(back.tensors().size(), 3u);
    EXPECT_EQ(back.tensor("weight").bytes, editor.tensor("weight").bytes);
    EXPECT_EQ(std::filesystem::exists(dir_.path("out/model.safetensors.index.json")), shards > 1);
  }
}

TEST_F(CheckpointEditorTest, WrongNamesAreLoud) {
  CheckpointEditor editor(dir_.path("in"));
  EXPECT_THROW(editor.erase("none"), std::out_of_range);
  EXPECT_THROW(editor.rename("none", "x"), std::out_of_range);
  EXPECT_THROW(editor.rename("weight", "scale"), std::invalid_argument);
  EXPECT_THROW(editor.scalar_f32("weight"), std::invalid_argument);
}

}  // namespace
}  // namespace facet::test
