// `facet synth` as a user meets it.

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fmt/core.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/e2e/process.h"
#include "tests/support.h"

namespace facet {
namespace {

namespace fs = std::filesystem;
using test::Finished;
using test::run_facet;
using testing::HasSubstr;

constexpr int kUsage = 64;
constexpr int kBadCheckpoint = 65;

std::string golden(const std::string& name) { return test::data_path("goldens/" + name); }

const std::string kFable = test::source_dir() + "/models/fable";

/// Exit code and a message that holds `words`; nothing on stdout, and nothing at `out`.
void expect_refusal(const Finished& run,
                    int exit_code,
                    const std::string& out,
                    const std::vector<std::string>& words) {
  EXPECT_EQ(run.exit_code, exit_code) << run.err;
  EXPECT_EQ(run.out, "");
  for (const std::string& word : words) EXPECT_THAT(run.err, HasSubstr(word));
  EXPECT_FALSE(fs::exists(out)) << out;
}

TEST(CliSynth, WritesAModelThatLoadsAndRuns) {
  const test::TempDir dir;
  const std::string source = golden("moe-nvfp4-modelopt");
  dir.write("N_config.json", test::read_text(source + "/config.json"));
  dir.write("N_generation_config.json", R"({"temperature": 0.5})");
  const std::string out = dir.path("out");
  const std::string quant = source + "/hf_quant_config.json";
  const Finished run =
      run_facet({"synth", dir.path("N_config.json"), quant, "--out", out, "--seed", "9"});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  EXPECT_THAT(run.out, HasSubstr("modelopt NVFP4, 349 text tensors"));
  EXPECT_EQ(run_facet({"check", out}).exit_code, 0);
  EXPECT_EQ(test::read_text(out + "/config.json"), test::read_text(source + "/config.json"));
  EXPECT_EQ(test::read_text(out + "/hf_quant_config.json"), test::read_text(quant));
  EXPECT_EQ(test::read_text(out + "/generation_config.json"), R"({"temperature": 0.5})");
  const Finished answer = run_facet({"generate", out, "--ids", "2,7", "--max-tokens", "20",
                                     "--temperature", "0", "--ignore-eos"});
  EXPECT_EQ(answer.exit_code, 0) << answer.err;
  EXPECT_EQ(std::count(answer.out.begin(), answer.out.end(), ','), 19);

  const std::string again = dir.path("again");
  run_facet({"synth", source + "/config.json", "--out", again, "--seed", "9", "--threads", "3"});
  EXPECT_TRUE(test::read_text(again + "/model.safetensors") ==
              test::read_text(out + "/model.safetensors"));
}

TEST(CliSynth, DryRunListsTensorsAndWritesNothing) {
  const test::TempDir dir;
  const std::string config = golden("dense-int4-g32") + "/config.json";
  const Finished run = run_facet({"synth", config, "--dry-run", "--out", dir.path("out")});
  EXPECT_EQ(run.exit_code, 0) << run.err;
  EXPECT_EQ(std::count(run.out.begin(), run.out.end(), '\n'), 83);
  EXPECT_THAT(run.out, HasSubstr("layers.0.mlp.down_proj.weight_packed I32 [96, 20]\n"));
  EXPECT_THAT(run.err, HasSubstr("83 text tensors, 215110 bytes"));
  EXPECT_FALSE(fs::exists(dir.path("out")));
}

TEST(CliSynth, TakesATokenizerPackedOrNot) {
  const test::TempDir dir;
  const std::string tokenizer = kFable + "/tokenizer.json";
  dir.write("t.json", test::read_text(tokenizer));
  if (std::system(("xz -k '" + dir.path("t.json") + "'").c_str()) != 0) {
    GTEST_SKIP() << "xz cannot be run";
  }
  for (const char* name : {"t.json", "t.json.xz"}) {
    const std::string out = dir.path(std::string("from-") + name);
    const Finished run =
        run_facet({"synth", kFable + "/config.json", "--out", out, "--tokenizer", dir.path(name)});
    ASSERT_EQ(run.exit_code, 0) << run.err;
    EXPECT_TRUE(test::read_text(out + "/tokenizer.json") == test::read_text(tokenizer)) << name;
    EXPECT_EQ(run_facet({"tokenize", out}, "The fox").out,
              run_facet({"tokenize", "fable"}, "The fox").out);
  }
}

TEST(CliSynthBadInput, OutMustBeANewOrEmptyFolder) {
  const test::TempDir dir;
  const std::string config = golden("dense-int4-g32") + "/config.json";
  dir.write("full/note.txt", "mine");
  Finished run = run_facet({"synth", config, "--out", dir.path("full")});
  EXPECT_EQ(run.exit_code, kUsage);
  EXPECT_THAT(run.err, HasSubstr("full: --out is not empty"));
  EXPECT_EQ(test::read_text(dir.path("full/note.txt")), "mine");
  EXPECT_FALSE(fs::exists(dir.path("full/model.safetensors")));
  run = run_facet({"synth", config, "--out", dir.path("full/note.txt")});
  EXPECT_EQ(run.exit_code, kUsage);
  EXPECT_THAT(run.err, HasSubstr("note.txt: --out is a file"));
  const std::string below = dir.path("full/note.txt/below");
  expect_refusal(run_facet({"synth", config, "--out", below}), kBadCheckpoint, below, {below});
  EXPECT_EQ(run_facet({"synth", config}).exit_code, kUsage);
  EXPECT_THAT(run_facet({"synth", config}).err, HasSubstr("--out"));

  fs::create_directories(dir.path("empty"));
  EXPECT_EQ(run_facet({"synth", config, "--out", dir.path("empty")}).exit_code, 0);
}

TEST(CliSynthBadInput, ConfigsThatCannotBeFollowedAreNamed) {
  const test::TempDir dir;
  const std::string out = dir.path("out");
  const auto with = [&](const std::string& config) {
    return run_facet({"synth", config, "--out", out});
  };
  expect_refusal(with(dir.path("none.json")), kUsage, out, {"none.json"});
  dir.write("a.json", "{");
  expect_refusal(with(dir.path("a.json")), kBadCheckpoint, out, {"a.json"});
  std::string config = test::read_text(golden("moe-nvfp4-modelopt") + "/config.json");
  const size_t at = config.find("\"modelopt\"", config.find("quant_method"));
  ASSERT_NE(at, std::string::npos);
  config.replace(at, 10, "\"gptq\"");
  dir.write("b.json", config);
  expect_refusal(with(dir.path("b.json")), kBadCheckpoint, out,
                 {"b.json", "quant_method", "gptq", "modelopt or compressed-tensors"});
  dir.write("c.json", "[]");
  expect_refusal(run_facet({"synth", golden("moe-nvfp4-modelopt") + "/config.json",
                            dir.path("c.json"), "--out", out}),
                 kBadCheckpoint, out, {"c.json"});
  expect_refusal(run_facet({"synth", golden("moe-nvfp4-modelopt") + "/config.json", "--out", out,
                            "--seed", "-1"}),
                 kUsage, out, {"--seed"});
}

TEST(CliSynthBadInput, TokenizersThatDoNotFitAreRefusedBeforeTheWeights) {
  const test::TempDir dir;
  const std::string out = dir.path("out");
  const std::string config = golden("dense-int4-g32") + "/config.json";
  const auto with = [&](const std::string& tokenizer) {
    return run_facet({"synth", config, "--out", out, "--tokenizer", tokenizer});
  };
  // More tokens than the 320 rows of the embedding.
  expect_refusal(with(kFable + "/tokenizer.json"), kBadCheckpoint, out, {"tokenizer.json", "320"});
  dir.write("t.json", "{}");
  expect_refusal(with(dir.path("t.json")), kBadCheckpoint, out, {"t.json"});
  dir.write("t.xz", std::string("\xFD"
                                "7zXZ\0garbage",
                                13));
  expect_refusal(with(dir.path("t.xz")), kUsage, out, {"t.xz: cannot be unpacked"});
  expect_refusal(with(dir.path("none")), kUsage, out, {"none"});
}

}  // namespace
}  // namespace facet
