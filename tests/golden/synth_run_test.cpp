// Synthetic models run, and behave: logits far from the soft cap, decoding that does not settle on
// one token, experts that all get work and depend on the token.

#include <algorithm>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>
#include <cmath>
#include <filesystem>
#include <fmt/core.h>
#include <gtest/gtest.h>
#include <map>
#include <random>
#include <set>

#include "checkpoint/json.h"
#include "model/gemma4/synth.h"
#include "tests/golden/golden.h"
#include "tests/support.h"

namespace facet {
namespace {

namespace fs = std::filesystem;
using test::LoadedModel;

/// A synthetic checkpoint, written and opened.
class Synthetic {
 public:
  Synthetic(const boost::json::object& config,
            const std::optional<boost::json::object>& hf_quant_config) {
    const auto parsed = gemma4::Gemma4Config::parse(config);
    const gemma4::SynthPlan plan =
        gemma4::plan_synth(parsed, QuantConfig::parse(config, hf_quant_config),
                           *find_activation(parsed.hidden_activation), 0);
    WorkerPool pool(1);
    gemma4::write_synth(plan, dir_.path(), gemma4::kShardBytes, pool, [](int64_t) {});
    dir_.write("config.json", boost::json::serialize(config));
    if (hf_quant_config) {
      dir_.write("hf_quant_config.json", boost::json::serialize(*hf_quant_config));
    }
    checkpoint_.emplace(dir_.path());
  }
  const Checkpoint& checkpoint() const { return *checkpoint_; }

 private:
  test::TempDir dir_;
  std::optional<Checkpoint> checkpoint_;
};

/// The experts that each token of a prompt chose, by layer.
class Choices final : public StepObserver {
 public:
  void hidden(int32_t /*layer*/, TensorView /*x*/) override {}
  void per_layer_inputs(TensorView /*ple*/) override {}
  void routing(int32_t layer, const Routing& routing) override {
    const auto ids = routing.experts.as<int32_t>();
    by_layer_[layer].insert(by_layer_[layer].end(), ids.begin(), ids.end());
  }
  std::map<int32_t, std::vector<int32_t>> by_layer_;
};

std::vector<int32_t> random_ids(int32_t count, int32_t vocab, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<int32_t> ids;
  for (int32_t i = 0; i < count; ++i) {
    ids.push_back(static_cast<int32_t>(random() % static_cast<uint32_t>(vocab)));
  }
  return ids;
}

/// Distinct ids among 50 greedy steps after `prompt`.
size_t distinct_decoded(LoadedModel& loaded, const std::vector<int32_t>& prompt) {
  CacheSlot slot{};
  auto rows = test::run_chunks(loaded, prompt, 64, nullptr, &slot);
  std::set<int32_t> seen;
  for (int32_t step = 0; step < 50; ++step) {
    const int32_t id = test::argmax(rows.back());
    seen.insert(id);
    EXPECT_TRUE(loaded.cache.reserve(slot, 1));
    const SequenceStep next = {slot, {&id, 1}, LogitRows::kLast};
    rows = test::rows_of(loaded.stepper.run({&next, 1}));
  }
  loaded.cache.close(slot);
  return seen.size();
}

/// Finite, spread about as planned, and far below a cap of 30.
void expect_sane(const std::vector<std::vector<float>>& rows) {
  double squares = 0;
  float largest = 0;
  for (const auto& row : rows) {
    for (const float value : row) {
      ASSERT_TRUE(std::isfinite(value));
      largest = std::max(largest, std::abs(value));
      squares += static_cast<double>(value) * static_cast<double>(value);
    }
  }
  const double count = static_cast<double>(rows.size() * rows.front().size());
  EXPECT_GT(std::sqrt(squares / count), 2.0);
  EXPECT_LT(std::sqrt(squares / count), 4.0);
  EXPECT_LT(largest, 22.0F);
}

/// How much two tokens' choices have in common, on average over pairs 1, 2, 3, … tokens apart.
double mean_overlap(const std::vector<int32_t>& chosen, int32_t top_k) {
  const int32_t tokens = static_cast<int32_t>(chosen.size()) / top_k;
  const auto of = [&](int32_t token) {
    const auto first = chosen.begin() + token * top_k;
    return std::set<int32_t>(first, first + top_k);
  };
  double common = 0;
  int64_t pairs = 0;
  for (int32_t a = 0; a < tokens; ++a) {
    const std::set<int32_t> mine = of(a);
    for (int32_t b = a + 1; b < tokens; b = a + 2 * (b - a)) {
      for (const int32_t expert : of(b)) common += mine.contains(expert) ? 1.0 : 0.0;
      ++pairs;
    }
  }
  return common / static_cast<double>(pairs * top_k);
}

TEST(SyntheticModel, EveryFormatRunsAndBehaves) {
  int32_t models = 0;
  for (const auto& entry : fs::directory_iterator(test::data_path("goldens"))) {
    SCOPED_TRACE(entry.path().filename());
    const Checkpoint golden(entry.path());
    const Synthetic made(golden.config(), golden.hf_quant_config());
    const auto backend = test::make_backend("cpu");
    LoadedModel loaded(made.checkpoint(), *backend);
    const gemma4::Gemma4Config& config = loaded.model.config();
    const auto prompt = random_ids(64, config.vocab_size, 1);
    Choices choices;
    expect_sane(test::run_chunks(loaded, prompt, 64, &choices));
    EXPECT_GE(distinct_decoded(loaded, prompt), 10u);
    EXPECT_GE(distinct_decoded(loaded, {2}), 10u);
    EXPECT_EQ(choices.by_layer_.empty(), config.num_experts == 0);
    for (const auto& [layer, chosen] : choices.by_layer_) {
      EXPECT_EQ(std::set<int32_t>(chosen.begin(), chosen.end()).size(),
                static_cast<size_t>(config.num_experts))
          << layer;
    }
    ++models;
  }
  EXPECT_GE(models, 9);
}

/// As many experts as the 26B, as deep, but narrow.
TEST(SyntheticModel, ManyExpertsAreAllUsedAndDependOnTheToken) {
  boost::json::object config =
      read_json_object(test::data_path("goldens/moe-nvfp4-modelopt/config.json"));
  boost::json::object& text = config["text_config"].as_object();
  constexpr int32_t kLayers = 30;
  boost::json::array types;
  for (int32_t layer = 0; layer < kLayers; ++layer) {
    types.emplace_back(layer % 6 == 5 ? "full_attention" : "sliding_attention");
  }
  text["layer_types"] = types;
  text["num_hidden_layers"] = kLayers;
  text["num_experts"] = 128;
  text["top_k_experts"] = 8;
  text["moe_intermediate_size"] = 32;
  text["hidden_size"] = 192;
  text["vocab_size"] = 2048;
  text["sliding_window"] = 128;
  const Synthetic made(config, std::nullopt);
  const auto backend = test::make_backend("cpu");
  LoadedModel loaded(made.checkpoint(), *backend);
  const auto prompt = random_ids(500, 2048, 2);
  Choices choices;
  expect_sane(test::run_chunks(loaded, prompt, 250, &choices));
  ASSERT_EQ(choices.by_layer_.size(), static_cast<size_t>(kLayers));
  for (const auto& [layer, chosen] : choices.by_layer_) {
    EXPECT_GE(std::set<int32_t>(chosen.begin(), chosen.end()).size(), 120u) << layer;
    std::vector<int32_t> load(128);
    for (const int32_t expert : chosen) ++load[static_cast<size_t>(expert)];
    EXPECT_LT(*std::max_element(load.begin(), load.end()), 500 / 2) << layer;
    EXPECT_LT(mean_overlap(chosen, 8), 2.0 * 8 / 128) << layer;  // twice that of chance
  }
  EXPECT_GE(distinct_decoded(loaded, random_ids(100, 2048, 3)), 30u);
}

}  // namespace
}  // namespace facet
