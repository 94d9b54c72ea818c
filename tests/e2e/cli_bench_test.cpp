// `bench model` and `bench engine` as a user meets them.

#include <boost/json/parse.hpp>
#include <csignal>
#include <fmt/core.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <set>

#include "tests/e2e/process.h"
#include "tests/e2e/terminal.h"
#include "tests/support.h"

namespace facet {
namespace {

using test::Finished;
using test::golden;
using test::kUsage;
using test::run_facet;
using testing::ElementsAre;
using testing::HasSubstr;

TEST(CliBench, ModelRowsAreConsistentWithTheirOwnRoof) {
  const test::TempDir dir;
  const Finished run = run_facet({"bench", "model", "--decode", "1,3", golden("moe-fp8-dynamic"),
                                  "--context", "0,40", "--prefill", "20", "--prefill-chunk", "8",
                                  "--seconds", "0", "--json", dir.path("rows.json")});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  EXPECT_THAT(run.out, HasSubstr("GB/s"));
  EXPECT_THAT(run.out, HasSubstr("peak memory"));
  EXPECT_THAT(run.err, HasSubstr("decode 3 tokens, context 40"));
  const boost::json::object all =
      boost::json::parse(test::read_text(dir.path("rows.json"))).as_object();
  EXPECT_EQ(all.size(), 5u);
  EXPECT_THAT(std::string(all.at("device").as_string()), HasSubstr("cpu"));
  std::set<std::string> ran;  // what, and of which format
  for (const boost::json::value& line : all.at("kernels").as_array()) {
    const std::string kind(line.at("kind").as_string());
    ran.insert(kind + " " + std::string(line.at("format").as_string()));
    EXPECT_FALSE(line.at("why").as_string().empty());
    const std::string kernel(line.at("kernel").as_string());
    EXPECT_THAT(run.out, HasSubstr(fmt::format("\n{:<13}{}\n", kind, kernel)));
  }
  EXPECT_THAT(ran, ElementsAre("attention BF16", "experts FP8", "linears BF16", "linears FP8"));
  const double read = all.at("read_gb_per_s").as_double();
  const double peak = all.at("peak_gflops").as_double();
  EXPECT_GT(read, 0.1);
  EXPECT_GT(peak, 0.1);
  const boost::json::array& rows = all.at("rows").as_array();
  ASSERT_EQ(rows.size(), 5u);
  int64_t bytes_before = 0;  // of the row with fewer sequences
  for (const boost::json::value& value : rows) {
    const boost::json::object& row = value.as_object();
    EXPECT_EQ(row.size(), 8u);
    const double seconds = row.at("ms").as_double() / 1e3;
    const auto bytes = static_cast<double>(row.at("bytes").as_int64());
    EXPECT_GT(seconds, 0.0);
    EXPECT_NEAR(row.at("gb_per_s").as_double() / (bytes * 1e-9 / seconds), 1.0, 1e-9);
    EXPECT_NEAR(row.at("tokens_per_second").as_double() * seconds,
                static_cast<double>(row.at("batch").as_int64()), 1e-6);
    const double share = row.at("roof_share").as_double();
    const double reading = bytes * 1e-9 / read / seconds;
    if (row.at("phase") == "decode") {
      EXPECT_NEAR(share / reading, 1.0, 1e-9);
      if (row.at("batch") == 3) EXPECT_GT(row.at("bytes").as_int64(), bytes_before);
      bytes_before = row.at("bytes").as_int64();
    } else {
      EXPECT_EQ(row.at("batch"), 20);
      EXPECT_EQ(row.at("context"), 0);
      EXPECT_GE(share, reading * (1.0 - 1e-9));
    }
  }
}

TEST(CliBench, WhatCannotBeMeasuredIsRefused) {
  const std::string model = golden("moe-fp8-dynamic");
  const auto refusal = [&](std::vector<std::string> flags) {
    flags.insert(flags.begin(), {"bench", "model", model});
    const Finished run = run_facet(flags);
    EXPECT_EQ(run.exit_code, kUsage) << run.err;
    EXPECT_EQ(run.out, "");
    return run.err;
  };
  EXPECT_THAT(refusal({"--backend", "ref"}), HasSubstr("--backend ref"));
  EXPECT_THAT(refusal({"--context", "5000"}), HasSubstr("--context 5000"));
  EXPECT_THAT(refusal({"--decode", "0", "--prefill", "5000"}), HasSubstr("--prefill 5000"));
  EXPECT_THAT(refusal({"--decode", "-1"}), HasSubstr("--decode"));
  EXPECT_THAT(refusal({"--kernels", "--backend", "cpu"}), HasSubstr("--kernels"));
  EXPECT_THAT(refusal({"--decode", "x"}), HasSubstr("--decode"));
  const Finished run = run_facet({"bench"});
  EXPECT_EQ(run.exit_code, kUsage);
}

TEST(CliBench, EngineGivesEveryRequestItsTokens) {
  const test::TempDir dir;
  const Finished run = run_facet({"bench",
                                  "engine",
                                  "fable",
                                  "--backend",
                                  "cpu",
                                  "--kv-memory",
                                  "100000000",
                                  "--input-len",
                                  "30",
                                  "--output-len",
                                  "6",
                                  "--range-ratio",
                                  "0.5",
                                  "--num-prompts",
                                  "9",
                                  "--sweep",
                                  "1,2",
                                  "--json",
                                  dir.path("out.json"),
                                  "--plot",
                                  dir.path("p.svg")});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  EXPECT_THAT(run.out, HasSubstr("Backend:                                 engine, in process\n"));
  EXPECT_THAT(run.out, HasSubstr("random, 15 to 30 tokens in, 3 to 6 out, seed 1\n"));
  const boost::json::object all =
      boost::json::parse(test::read_text(dir.path("out.json"))).as_object();
  EXPECT_EQ(all.at("kernels").as_array().size(), 3u);
  const boost::json::array& levels = all.at("levels").as_array();
  ASSERT_EQ(levels.size(), 2u);
  for (size_t i = 0; i < 2; ++i) {
    const boost::json::object& level = levels[i].as_object();
    EXPECT_EQ(level.at("concurrency").as_int64(), static_cast<int64_t>(i) + 1);
    EXPECT_EQ(level.at("peak_concurrency"), level.at("concurrency"));
    EXPECT_EQ(level.at("completed").as_int64(), 9);
    EXPECT_EQ(level.at("cached_input_tokens").as_int64(), 0);
    EXPECT_EQ(level.at("output_tokens"), levels[0].at("output_tokens"));
    EXPECT_GT(level.at("median_tpot_ms").as_double(), 0);
  }
  EXPECT_THAT(test::read_text(dir.path("p.svg")), HasSubstr("time to first token, ms"));
}

TEST(CliBench, EngineReportsWhatItCannotTake) {
  const Finished run =
      run_facet({"bench", "engine", "fable", "--backend", "cpu", "--kv-memory", "100000000",
                 "--max-model-len", "40", "--input-len", "60", "--range-ratio", "0.1",
                 "--output-len", "4", "--num-prompts", "12", "--warmup", "0"});
  EXPECT_EQ(run.exit_code, 65);
  EXPECT_THAT(run.out, HasSubstr("  too long:"));
  EXPECT_THAT(run.err, HasSubstr("of 12 requests failed"));
}

TEST(CliBench, EngineTakesChatsAndTextsFromAFile) {
  const test::TempDir dir;
  dir.write("p.jsonl",
            "{\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"}],\"max_tokens\":3}\n"
            "{\"prompt\":\"Once upon a time\",\"max_tokens\":4}\n");
  const Finished run = run_facet({"bench", "engine", "fable", "--backend", "cpu", "--kv-memory",
                                  "100000000", "--prompts", dir.path("p.jsonl")});
  EXPECT_EQ(run.exit_code, 0) << run.err;
  EXPECT_THAT(run.out, HasSubstr("Total generated tokens:                  7\n"));
}

TEST(CliBench, CtrlCPrintsWhatIsKnownOfTheEngine) {
  test::Terminal terminal({"bench", "engine", "fable", "--backend", "cpu", "--kv-memory",
                           "100000000", "--num-prompts", "500", "--input-len", "8", "--output-len",
                           "200"});
  terminal.read_until("/500 requests");
  terminal.type("\x03");
  terminal.read_until("interrupted");
  terminal.read_until("Cut short");
  terminal.read_until("Median ITL");
  EXPECT_EQ(terminal.wait(), -SIGINT);
}

}  // namespace
}  // namespace facet
