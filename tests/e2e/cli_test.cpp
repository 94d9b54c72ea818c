// The built program as a user meets it: answers on stdout, one clear line and a documented exit
// code for everything that cannot go on.

#include <algorithm>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fmt/core.h>
#include <fstream>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <set>
#include <sstream>
#include <stdlib.h>

#include "checkpoint/safetensors.h"
#include "tests/checkpoint_editor.h"
#include "tests/e2e/process.h"
#include "tests/support.h"
#include "tests/tolerance.h"

namespace facet {
namespace {

using test::Finished;
using test::golden;
using test::kBadCheckpoint;
using test::kDevice;
using test::kUsage;
using test::run_facet;
using testing::HasSubstr;

std::string expected_ids(const std::string& folder, const char* name) {
  const boost::json::value all = boost::json::parse(test::read_text(folder + "/expected.json"));
  std::string text;
  for (const boost::json::value& id : all.at(name).as_array()) {
    text += (text.empty() ? "" : ",") + std::to_string(id.as_int64());
  }
  return text;
}

/// Exit code, and one short message on stderr that holds `words`; nothing on stdout.
void expect_refusal(const Finished& run, int exit_code, const std::vector<std::string>& words) {
  EXPECT_EQ(run.exit_code, exit_code) << run.err;
  EXPECT_EQ(run.out, "");
  for (const std::string& word : words) EXPECT_THAT(run.err, HasSubstr(word));
}

/// The golden, changed, in a folder of its own.
class Changed {
 public:
  template <typename Edit>
  Changed(const char* name, const Edit& edit) {
    test::CheckpointEditor editor(golden(name));
    edit(editor);
    editor.save(dir_.path("model"));
  }
  std::string folder() const { return dir_.path("model"); }

 private:
  test::TempDir dir_;
};

TEST(Cli, HelpOfEveryCommandIsThere) {
  const Finished all = run_facet({"--help"});
  EXPECT_EQ(all.exit_code, 0);
  for (const char* command :
       {"run", "generate", "logits", "perplexity", "tokenize", "detokenize", "render", "info",
        "check", "verify", "quantize", "synth", "bench", "version"}) {
    EXPECT_THAT(all.out, HasSubstr(command));
    const Finished help = run_facet({command, "--help"});
    EXPECT_EQ(help.exit_code, 0) << command;
    EXPECT_THAT(help.out, HasSubstr("Usage")) << command;
  }
}

TEST(Cli, VersionIsACommandAndAFlag) {
  const Finished command = run_facet({"version"});
  EXPECT_EQ(command.exit_code, 0);
  EXPECT_THAT(command.out, HasSubstr("commit "));
  const Finished flag = run_facet({"--version"});
  EXPECT_EQ(flag.exit_code, 0);
  EXPECT_EQ(flag.out, command.out);
}

TEST(Cli, GenerateGivesTheReferencesGreedyIds) {
  for (const char* name : {"moe-nvfp4-modelopt", "moe-fp8-dynamic", "dense-ple-kvshared-bf16"}) {
    for (const char* backend : {"ref", "cpu"}) {
      const Finished run =
          run_facet({"generate", golden(name), "--ids", expected_ids(golden(name), "prompt_ids"),
                     "--max-tokens", "24", "--temperature", "0", "--ignore-eos", "--kv-dtype",
                     "f32", "--backend", backend});
      EXPECT_EQ(run.exit_code, 0) << run.err;
      EXPECT_EQ(run.out, expected_ids(golden(name), "greedy_ids") + "\n") << name << " " << backend;
    }
  }
}

TEST(Cli, LogitsWritesWhatTheGoldensHold) {
  const test::TempDir dir;
  const std::string folder = golden("moe-nvfp4-modelopt");
  std::vector<std::vector<std::byte>> written;
  for (const char* chunk : {"1", "7", "0"}) {
    const Finished run = run_facet({"logits", folder, "--ids", expected_ids(folder, "prompt_ids"),
                                    "--out", dir.path("out.safetensors"), "--hidden", "--router",
                                    "--kv-dtype", "f32", "--chunk", chunk});
    ASSERT_EQ(run.exit_code, 0) << run.err;
    const SafetensorsFile found(dir.path("out.safetensors"));
    const SafetensorsFile wanted(folder + "/expected.safetensors");
    for (const char* name :
         {"logits", "hidden", "router_index_1", "router_weight_1", "prompt_ids"}) {
      ASSERT_NE(found.find(name), nullptr) << name;
      EXPECT_EQ(found.find(name)->shape, wanted.find(name)->shape) << name;
      EXPECT_EQ(found.find(name)->dtype, wanted.find(name)->dtype) << name;
    }
    const auto bytes = found.find("logits")->bytes;
    for (size_t at = 0; at < bytes.size(); at += sizeof(float)) {
      float a = 0;
      float b = 0;
      std::memcpy(&a, bytes.data() + at, sizeof(a));
      std::memcpy(&b, wanted.find("logits")->bytes.data() + at, sizeof(b));
      ASSERT_NEAR(a, b, test::kGoldenLogits) << at;
    }
    written.emplace_back(bytes.begin(), bytes.end());
  }
  EXPECT_EQ(written[0], written[1]);
  EXPECT_EQ(written[0], written[2]);
}

TEST(Cli, TokenizeAndDetokenizeAreInverse) {
  const std::string text = "Once upon a time\n there was a fox 🦊 <bos> and  two spaces";
  const Finished ids = run_facet({"tokenize", "fable"}, text);
  EXPECT_EQ(ids.exit_code, 0);
  EXPECT_EQ(std::count(ids.out.begin(), ids.out.end(), '\n'), 1);
  EXPECT_EQ(run_facet({"detokenize", "fable"}, ids.out).out, text);
  const Finished special = run_facet({"tokenize", "fable", "--special"}, "<bos>a");
  EXPECT_THAT(special.out, testing::StartsWith("2,"));
  EXPECT_EQ(run_facet({"detokenize", "fable", "--special"}, special.out).out, "<bos>a");
  const Finished lines = run_facet({"tokenize", "fable", "--jsonl"}, "\"a\"\n\"b c\"\n");
  EXPECT_EQ(run_facet({"detokenize", "fable", "--jsonl"}, lines.out).out, "\"a\"\n\"b c\"\n");
}

TEST(Cli, RenderFollowsThePublishedTemplate) {
  std::istringstream vectors(test::read_text(test::data_path("prompt_vectors.jsonl")));
  std::string requests;
  std::vector<std::string> wanted;
  for (std::string line; std::getline(vectors, line);) {
    const boost::json::object vector = boost::json::parse(line).as_object();
    if (vector.at("name") == "numbers") continue;  // Boost.JSON would change its digits here
    boost::json::object request = {{"messages", vector.at("messages")}};
    if (vector.contains("tools")) request["tools"] = vector.at("tools");
    if (vector.contains("kwargs")) {
      for (const auto& [name, value] : vector.at("kwargs").as_object()) request[name] = value;
    }
    requests += boost::json::serialize(request) + "\n";
    wanted.push_back(boost::json::serialize(vector.at("prompt")));
  }
  ASSERT_GT(wanted.size(), 30u);
  const Finished run = run_facet({"render", "fable", "--jsonl", "--template-exact"}, requests);
  ASSERT_EQ(run.exit_code, 0) << run.err;
  std::istringstream out(run.out);
  for (const std::string& prompt : wanted) {
    std::string line;
    std::getline(out, line);
    EXPECT_EQ(line, prompt);
  }
}

TEST(Cli, RunTellsAStoryAndTheSameOneForTheSameSeed) {
  const std::vector<std::string> command = {
      "run", "fable", "Tell me a story about a fox.", "--seed", "7", "--max-tokens", "60"};
  const Finished first = run_facet(command);
  EXPECT_EQ(first.exit_code, 0) << first.err;
  EXPECT_GT(first.out.size(), 100u);
  EXPECT_EQ(first.out.find('\x1b'), std::string::npos) << "colours in a pipe";
  EXPECT_THAT(first.err, HasSubstr("tok/s"));
  EXPECT_EQ(run_facet(command).out, first.out);
  const Finished piped = run_facet({"run", "fable", "--seed", "7", "--max-tokens", "60"},
                                   "Tell me a story about a fox.");
  EXPECT_EQ(piped.out, first.out);
  std::vector<std::string> json = command;
  json.emplace_back("--json");
  const boost::json::value answer = boost::json::parse(run_facet(json).out);
  EXPECT_EQ(std::string(answer.at("text").as_string()) + "\n", first.out);
  for (const char* timing : {"load_s", "time_to_first_token_s", "prompt_tokens_per_second",
                             "decode_tokens_per_second"}) {
    EXPECT_TRUE(answer.at("timings").at(timing).is_double()) << timing;
  }
}

TEST(Cli, InfoSaysWhatWouldRun) {
  const Finished run = run_facet({"info", "fable", "--json"});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  const boost::json::value info = boost::json::parse(run.out);
  EXPECT_EQ(info.at("modules").at("experts").at("format"), "NVFP4");
  EXPECT_EQ(info.at("experts"), 32);
  std::set<std::string> kinds;
  for (const boost::json::value& kernel : info.at("kernels").as_array()) {
    kinds.emplace(kernel.at("kind").as_string());
    EXPECT_FALSE(kernel.at("why").as_string().empty());
  }
  EXPECT_EQ(kinds, (std::set<std::string>{"experts", "attention", "linears"}));
  EXPECT_THAT(run_facet({"info", "fable", "--backend", "ref"}).out, HasSubstr("only kernel"));
  EXPECT_THAT(run_facet({"info", "fable", "--cpu-isa", "baseline"}).out,
              HasSubstr("was asked for"));
}

TEST(Cli, InfoPlansMemoryForTheGivenFlags) {
  const auto memory = [](std::vector<std::string> options) {
    options.insert(options.begin(), {"info", "fable", "--json"});
    return boost::json::parse(run_facet(options).out).as_object();
  };
  const boost::json::object small = memory({"--context", "1024"});
  const boost::json::object large = memory({"--context", "2048"});
  const boost::json::object wide = memory({"--context", "1024", "--kv-dtype", "f32"});
  const boost::json::object chunk = memory({"--context", "1024", "--prefill-chunk", "512"});
  const auto bytes = [](const boost::json::object& info, const char* name) {
    return info.at("memory").at(name).as_int64();
  };
  // Beyond the window only the full layers grow: one position of theirs for each of the context.
  const int64_t full = small.at("kv_bytes_per_position").at("full").as_int64();
  EXPECT_EQ(bytes(large, "kv_cache_bytes") - bytes(small, "kv_cache_bytes"), 1024 * full);
  EXPECT_EQ(bytes(wide, "kv_cache_bytes"), 2 * bytes(small, "kv_cache_bytes"));
  EXPECT_GT(bytes(chunk, "activation_bytes"), bytes(small, "activation_bytes"));
  EXPECT_EQ(bytes(small, "weights_mapped_bytes"), bytes(large, "weights_mapped_bytes"));
  const int64_t sliding = small.at("kv_bytes_per_position").at("sliding").as_int64();
  EXPECT_EQ(small.at("kv_bytes_per_decoded_token").as_int64(), 1024 * full + 256 * sliding);
}

TEST(Cli, QuantizeWritesWhatItCanRead) {
  const test::TempDir dir;
  const Finished run =
      run_facet({"quantize", golden("moe-bf16-fused"), dir.path("out"), "--format", "nvfp4"});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  EXPECT_THAT(run.err, HasSubstr("W4A16_NVFP4"));
  EXPECT_EQ(run_facet({"check", dir.path("out")}).exit_code, 0);
  const Finished again =
      run_facet({"quantize", dir.path("out"), dir.path("twice"), "--format", "nvfp4"});
  expect_refusal(again, kBadCheckpoint, {"quantised already"});
}

TEST(Cli, ManifestFindsAChangedFile) {
  const test::TempDir dir;
  const Changed model("dense-int4-g32", [](test::CheckpointEditor&) {});
  EXPECT_EQ(run_facet({"check", model.folder(), "--write-manifest", dir.path("m.json")}).exit_code,
            0);
  EXPECT_EQ(run_facet({"check", model.folder(), "--manifest", dir.path("m.json")}).exit_code, 0);
  std::ofstream(model.folder() + "/model.safetensors", std::ios::in | std::ios::out)
      .seekp(-1, std::ios::end)
      .put('x');
  expect_refusal(run_facet({"check", model.folder(), "--manifest", dir.path("m.json")}),
                 kBadCheckpoint, {"differs  model.safetensors"});
}

TEST(CliBadInput, UsageIsRefusedWithOneLine) {
  expect_refusal(run_facet({}), kUsage, {"--help"});
  expect_refusal(run_facet({"sing"}), kUsage, {"sing"});
  expect_refusal(run_facet({"run", "fable", "x", "--no-such-flag"}), kUsage, {"--no-such-flag"});
  expect_refusal(run_facet({"run", "no-such-model", "x"}), kUsage, {"no-such-model", "fable"});
  expect_refusal(run_facet({"run", "fable", "x", "--kv-dtype", "int2"}), kUsage, {"--kv-dtype"});
  expect_refusal(run_facet({"run", "fable", "x", "--cpu-isa", "mmx"}), kUsage, {"mmx", "avx2"});
  // No GPU is visible, or the build has none of CUDA.
  setenv("CUDA_VISIBLE_DEVICES", "-1", 1);
  expect_refusal(run_facet({"run", "fable", "x", "--backend", "cuda"}), kDevice, {"cuda"});
  unsetenv("CUDA_VISIBLE_DEVICES");
  expect_refusal(run_facet({"run", "fable"}, ""), kUsage, {"prompt is empty"});
}

TEST(Cli, TheContextEndsAnAnswerAsLength) {
  const Finished run = run_facet(
      {"run", "fable", "Tell me a story about a fox.", "--seed", "7", "--context", "40", "--json"});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  const boost::json::value answer = boost::json::parse(run.out);
  EXPECT_EQ(answer.at("finish_reason"), "length");
  EXPECT_FALSE(answer.at("text").as_string().empty());
  expect_refusal(run_facet({"run", "fable", std::string(400, 'x'), "--context", "20"}), kUsage,
                 {"room for 20"});
}

TEST(Cli, PerplexityOfAShortText) {
  const test::TempDir dir;
  dir.write("text", "Once upon a time there was a fox who lived in a wood.");
  const Finished run = run_facet({"perplexity", "fable", "--text", dir.path("text"), "--json"});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  const double nats = boost::json::parse(run.out).at("nats_per_token").as_double();
  EXPECT_GT(nats, 0.5);
  EXPECT_LT(nats, 6.0) << "a uniform guess over 4,096 tokens costs 8.3";
  expect_refusal(
      run_facet({"perplexity", "fable", "--text", dir.path("text"), "--window", "20000"}), kUsage,
      {"--window"});
}

TEST(CliBadInput, GenerationConfigIsBlamedByName) {
  const test::TempDir dir;
  const Finished made =
      run_facet({"quantize", golden("moe-bf16-fused"), dir.path("m"), "--format", "nvfp4"});
  ASSERT_EQ(made.exit_code, 0) << made.err;
  for (const char* text :
       {"{\"top_k\": 4294967301}", "{\"temperature\": 5000}", "{\"top_p\": 0}"}) {
    dir.write("m/generation_config.json", text);
    expect_refusal(run_facet({"generate", dir.path("m"), "--ids", "2"}), kBadCheckpoint,
                   {"generation_config.json"});
  }
  expect_refusal(
      run_facet({"quantize", golden("moe-bf16-fused"), dir.path("m"), "--format", "nvfp4"}), kUsage,
      {"OUT holds files already", "wanted an empty folder"});
}

TEST(CliBadInput, SamplingOutOfRangeIsNamed) {
  for (const char* value : {"nan", "-1", "inf"}) {
    expect_refusal(run_facet({"run", "fable", "x", "--temperature", value}), kUsage,
                   {"temperature"});
  }
  expect_refusal(run_facet({"run", "fable", "x", "--top-p", "0"}), kUsage, {"top_p"});
  expect_refusal(run_facet({"run", "fable", "x", "--top-k", "-3"}), kUsage, {"top_k"});
  expect_refusal(run_facet({"run", "fable", "x", "--max-tokens", "0"}), kUsage, {"--max-tokens"});
}

TEST(CliBadInput, IdsOutOfRangeAreNamed) {
  const std::string model = golden("dense-int4-g32");
  for (const char* command : {"generate", "logits"}) {
    std::vector<std::string> base = {command, model, "--ids"};
    const auto with = [&](const char* ids) {
      std::vector<std::string> all = base;
      all.emplace_back(ids);
      if (std::strcmp(command, "logits") == 0) all.insert(all.end(), {"--out", "/dev/null"});
      return run_facet(all);
    };
    expect_refusal(with("2,320"), kUsage, {"320", "0 to 319"});
    expect_refusal(with("2,-1"), kUsage, {"-1"});
    expect_refusal(with("2,x"), kUsage, {"'x'"});
    expect_refusal(with(""), kUsage, {"no token ids"});
    expect_refusal(with("99999999999"), kUsage, {"99999999999"});
  }
  expect_refusal(run_facet({"detokenize", "fable"}, "2,4096"), kUsage, {"4096"});
}

TEST(CliBadInput, DamagedCheckpointsAreRefusedByName) {
  const auto refuse = [](const Changed& model, const std::vector<std::string>& words) {
    expect_refusal(run_facet({"check", model.folder(), "--values"}), kBadCheckpoint, words);
  };
  refuse(Changed(
             "moe-nvfp4-modelopt",
             [](auto& e) { e.config()["quantization_config"].as_object()["quant_algo"] = "INT3"; }),
         {"quant_algo", "INT3"});
  refuse(Changed(
             "moe-nvfp4-modelopt",
             [](auto& e) { e.config()["text_config"].as_object()["hidden_activation"] = "swish"; }),
         {"hidden_activation", "swish", "silu"});
  refuse(Changed("moe-bf16-fused",
                 [](auto& e) { e.config()["architectures"] = {"LlamaForCausalLM"}; }),
         {"architectures", "LlamaForCausalLM"});
  refuse(Changed("moe-bf16-fused", [](auto& e) { e.erase("model.language_model.norm.weight"); }),
         {"model.language_model.norm.weight"});
  const Changed cut("dense-int4-g32", [](auto&) {});
  std::filesystem::resize_file(cut.folder() + "/model.safetensors", 5000);
  refuse(cut, {"model.safetensors"});
  const Changed shard("dense-int4-g32", [](auto&) {});
  std::filesystem::remove(shard.folder() + "/model.safetensors");
  refuse(shard, {"model.safetensors"});
  const Changed infinite("dense-int4-g32", [](auto& e) {
    std::string& bytes = e.tensor("model.language_model.embed_tokens.weight").bytes;
    bytes[100] = '\x80';
    bytes[101] = '\x7f';
  });
  refuse(infinite, {"embed_tokens.weight", "value 50 is not a finite number"});
  const Changed text("dense-int4-g32", [](auto&) {});
  const char* const pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n";
  for (const char* file : {"config.json", "model.safetensors", "tokenizer.json"}) {
    const Changed unfetched("dense-int4-g32", [](auto&) {});
    std::ofstream(unfetched.folder() + "/" + file) << pointer;
    refuse(unfetched, {file, "Git LFS pointer"});
  }
  std::ofstream(text.folder() + "/config.json") << "{\"text_config\": ";
  refuse(text, {"config.json"});
  std::ofstream(text.folder() + "/tokenizer.json") << "[]";
}

/// Every byte of the header region matters; whatever a flipped bit does, the program ends by itself
/// with a documented exit code.
TEST(CliBadInput, FlippedBitsNeverCrash) {
  const Changed model("dense-int4-g32", [](auto&) {});
  const std::string file = model.folder() + "/model.safetensors";
  const std::string original = test::read_text(file);
  for (size_t at = 0; at < 4000; at += 157) {
    std::string flipped = original;
    flipped[at] = static_cast<char>(flipped[at] ^ (1 << (at % 8)));
    std::ofstream(file, std::ios::binary) << flipped;
    const Finished run = run_facet({"check", model.folder()});
    EXPECT_TRUE(run.exit_code == 0 || run.exit_code == kBadCheckpoint)
        << at << ": " << run.exit_code << run.err;
  }
}

}  // namespace
}  // namespace facet
