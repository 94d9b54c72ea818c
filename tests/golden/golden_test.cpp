// Every reference checkpoint on every backend against what transformers computed in float32.

#include "tests/golden/golden.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fmt/core.h>
#include <gtest/gtest.h>
#include <map>
#include <set>

#include "tests/support.h"
#include "tests/tolerance.h"

namespace facet {
namespace {

namespace fs = std::filesystem;
using test::Golden;
using test::LoadedModel;
using Rows = std::vector<std::vector<float>>;

constexpr const char* kVision =
    "moe-vision-bf16";  // its prompt holds images; only forced_ids is text

/// Goldens in the repository, and all of the shared ones where they are; or those of the folder
/// that FACET_GOLDENS names instead (docs/testing.md).
std::map<std::string, std::string> all_goldens() {
  std::map<std::string, std::string> found;
  std::vector<std::string> folders = {test::data_path("goldens")};
  if (const char* chosen = std::getenv("FACET_GOLDENS"); chosen != nullptr) {
    folders = {chosen};
  } else if (const auto shared = test::shared_path("goldens")) {
    folders.push_back(*shared);
  }
  for (const std::string& folder : folders) {
    for (const auto& entry : fs::directory_iterator(folder)) {
      if (entry.is_directory()) found.emplace(entry.path().filename(), entry.path());
    }
  }
  return found;
}

float largest_difference(const Rows& rows, std::span<const float> wanted) {
  float largest = 0;
  size_t i = 0;
  for (const auto& row : rows) {
    for (const float value : row) {
      // Written so that a NaN is not less than anything.
      const float difference = std::abs(value - wanted[i++]);
      if (!(difference <= largest)) largest = difference;
    }
  }
  EXPECT_EQ(i, wanted.size());
  return largest;
}

double mean_difference(const Rows& rows, std::span<const float> wanted) {
  double sum = 0;
  size_t i = 0;
  for (const auto& row : rows) {
    for (const float value : row) sum += std::abs(static_cast<double>(value - wanted[i++]));
  }
  return sum / static_cast<double>(wanted.size());
}

class Recorder final : public StepObserver {
 public:
  void hidden(int32_t layer, TensorView x) override { append(hidden_[layer], x.as<float>()); }
  void routing(int32_t layer, const Routing& routing) override {
    const auto ids = routing.experts.as<int32_t>();
    experts_[layer].insert(experts_[layer].end(), ids.begin(), ids.end());
    append(weights_[layer], routing.weights.as<float>());
  }
  void per_layer_inputs(TensorView ple) override { append(ple_, ple.as<float>()); }

  std::map<int32_t, std::vector<float>> hidden_;
  std::map<int32_t, std::vector<int32_t>> experts_;
  std::map<int32_t, std::vector<float>> weights_;
  std::vector<float> ple_;

 private:
  static void append(std::vector<float>& to, std::span<const float> from) {
    to.insert(to.end(), from.begin(), from.end());
  }
};

void expect_near(std::span<const float> found,
                 std::span<const float> wanted,
                 const std::string& what) {
  ASSERT_EQ(found.size(), wanted.size()) << what;
  for (size_t i = 0; i < found.size(); ++i) {
    ASSERT_NEAR(found[i], wanted[i], test::kGoldenLogits) << what << " value " << i;
  }
}

/// What a backend computes in.
enum class Precision { kFloat32, kBf16 };
Precision precision_of(const std::string& backend) {
  return backend == "cuda" ? Precision::kBf16 : Precision::kFloat32;
}
float logits_bound(Precision precision) {
  return precision == Precision::kBf16 ? test::kBf16GoldenLogits : test::kGoldenLogits;
}

/// The experts of each row in ascending order.
std::vector<int32_t> sets_of(std::vector<int32_t> experts, int32_t top_k) {
  for (auto row = experts.begin(); row != experts.end(); row += top_k) std::sort(row, row + top_k);
  return experts;
}

/// In BF16 the sets of chosen experts alone are told beforehand; two of a set may change places.
void check_intermediates(const Golden& golden,
                         const Recorder& seen,
                         const gemma4::Gemma4Config& config,
                         Precision precision) {
  const bool exact = precision == Precision::kFloat32;
  const auto hidden = golden.floats("hidden");
  const int32_t layers = config.num_hidden_layers;
  const size_t each = hidden.size() / static_cast<size_t>(layers + 1);
  for (int32_t layer = 0; exact && layer <= layers; ++layer) {
    expect_near(seen.hidden_.at(layer), hidden.subspan(static_cast<size_t>(layer) * each, each),
                fmt::format("hidden {}", layer));
  }
  EXPECT_EQ(seen.experts_.empty(), config.top_k_experts == 0);
  for (const auto& [layer, experts] : seen.experts_) {
    const auto wanted = golden.ids(fmt::format("router_index_{}", layer).c_str());
    EXPECT_EQ(sets_of(experts, config.top_k_experts), sets_of(wanted, config.top_k_experts))
        << "experts of layer " << layer;
    if (!exact) continue;
    EXPECT_EQ(experts, wanted) << "experts of layer " << layer;
    expect_near(seen.weights_.at(layer),
                golden.floats(fmt::format("router_weight_{}", layer).c_str()),
                fmt::format("router weights of layer {}", layer));
  }
  if (exact && golden.has("ple")) expect_near(seen.ple_, golden.floats("ple"), "per-layer inputs");
}

/// Differences of logits, of each text of a golden.
struct Largest {
  float prompt = 0;
  float decode = 0;
  float forced = 0;
};

void check_prompt_and_decode(const Golden& golden,
                             LoadedModel& loaded,
                             Precision precision,
                             Largest& largest) {
  Recorder seen;
  const auto prompt = golden.ids("prompt_ids");
  const Rows whole = test::run_chunks(loaded, prompt, static_cast<int32_t>(prompt.size()), &seen);
  largest.prompt = largest_difference(whole, golden.floats("logits"));
  EXPECT_LE(largest.prompt, logits_bound(precision));
  if (precision == Precision::kBf16)
    EXPECT_LE(mean_difference(whole, golden.floats("logits")), test::kBf16GoldenMean);
  check_intermediates(golden, seen, loaded.model.config(), precision);

  for (const int32_t chunk : {1, 7}) {
    EXPECT_EQ(test::run_chunks(loaded, prompt, chunk), whole) << "bit-equal in chunks of " << chunk;
  }

  CacheSlot slot{};
  test::run_chunks(loaded, prompt, 7, nullptr, &slot);
  Rows decoded;
  const auto forced = golden.ids("decode_ids");
  for (const int32_t id : forced) {
    ASSERT_TRUE(loaded.cache.reserve(slot, 1));
    const SequenceStep step = {slot, {&id, 1}, LogitRows::kLast};
    decoded.push_back(test::rows_of(loaded.stepper.run({&step, 1})).front());
  }
  largest.decode = largest_difference(decoded, golden.floats("decode_logits"));
  EXPECT_LE(largest.decode, logits_bound(precision));
  loaded.cache.close(slot);
  if (precision == Precision::kBf16) return;  // greedy ids may part at a close call

  std::vector<int32_t> greedy;
  Rows rows = test::run_chunks(loaded, prompt, 16, nullptr, &slot);
  const auto wanted = golden.ids("greedy_ids");
  while (greedy.size() < wanted.size()) {
    greedy.push_back(test::argmax(rows.back()));
    ASSERT_TRUE(loaded.cache.reserve(slot, 1));
    const SequenceStep step = {slot, {&greedy.back(), 1}, LogitRows::kLast};
    rows = test::rows_of(loaded.stepper.run({&step, 1}));
  }
  EXPECT_EQ(greedy, wanted);
  loaded.cache.close(slot);
}

class GoldenOn : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    if (const auto reason = test::absent(GetParam())) GTEST_SKIP() << *reason;
  }
};

TEST_P(GoldenOn, AgreesWithTransformers) {
  const auto goldens = all_goldens();
  ASSERT_FALSE(goldens.empty());
  const auto backend = test::make_backend(GetParam());
  for (const auto& [name, folder] : goldens) {
    SCOPED_TRACE(name);
    const Golden golden(folder);
    LoadedModel loaded(golden.checkpoint(), *backend);
    Largest largest;
    const Precision precision = precision_of(GetParam());
    if (name != kVision) check_prompt_and_decode(golden, loaded, precision, largest);
    const auto forced = golden.ids("forced_ids");
    const Rows rows = test::run_chunks(loaded, forced, 5);
    largest.forced = largest_difference(rows, golden.floats("forced_logits"));
    EXPECT_LE(largest.forced, logits_bound(precision));
    loaded.cache.check_integrity();
    fmt::print("{} on {}: largest logit differences: ", name, GetParam());
    if (name != kVision)
      fmt::print("prompt {:.2g}, decode {:.2g}, ", largest.prompt, largest.decode);
    fmt::print("forced {:.2g}\n", largest.forced);
  }
}

/// Sequences at different places, prefill chunks and decodes mixed: each row as if it were alone.
TEST_P(GoldenOn, NeighboursChangeNoBit) {
  for (const char* name : {"moe-nvfp4-modelopt", "dense-ple-kvshared-bf16"}) {
    SCOPED_TRACE(name);
    const Golden golden(test::data_path(std::string("goldens/") + name));
    const auto backend = test::make_backend(GetParam());
    LoadedModel loaded(golden.checkpoint(), *backend, DType::kF32, 8);
    const std::vector<std::vector<int32_t>> texts = {
        golden.ids("prompt_ids"), golden.ids("forced_ids"), golden.ids("decode_ids")};
    std::vector<Rows> alone;
    for (const auto& text : texts) {
      alone.push_back(test::run_chunks(loaded, text, static_cast<int32_t>(text.size())));
    }
    std::vector<CacheSlot> slots;
    std::vector<size_t> done(texts.size(), 0);
    std::vector<Rows> together(texts.size());
    for (size_t i = 0; i < texts.size(); ++i) slots.push_back(loaded.cache.open());
    const std::vector<std::vector<size_t>> chunks = {{5, 1, 9, 2}, {1, 3}, {1, 1, 4}};
    for (size_t round = 0;
         done != std::vector<size_t>{texts[0].size(), texts[1].size(), texts[2].size()}; ++round) {
      std::vector<SequenceStep> steps;
      std::vector<size_t> order;
      for (size_t i = 0; i < texts.size(); ++i) {
        const size_t s = (i + round) % texts.size();  // the order of sequences changes too
        const size_t want = chunks[s][round % chunks[s].size()];
        const size_t rows = std::min(want, texts[s].size() - done[s]);
        if (rows == 0) continue;
        ASSERT_TRUE(loaded.cache.reserve(slots[s], static_cast<int32_t>(rows)));
        steps.push_back({slots[s], std::span(texts[s]).subspan(done[s], rows), LogitRows::kAll});
        order.push_back(s);
        done[s] += rows;
      }
      Rows rows = test::rows_of(loaded.stepper.run(steps));
      size_t at = 0;
      for (size_t i = 0; i < steps.size(); ++i) {
        for (size_t r = 0; r < steps[i].ids.size(); ++r)
          together[order[i]].push_back(std::move(rows[at++]));
      }
      loaded.cache.check_integrity();
    }
    for (size_t s = 0; s < texts.size(); ++s) EXPECT_EQ(together[s], alone[s]) << "sequence " << s;
  }
}

/// FP8 and BF16 caches are lossy: close to the float32 one, and not equal to it.
TEST_P(GoldenOn, NarrowCachesStayClose) {
  const Golden golden(test::data_path("goldens/moe-nvfp4-modelopt-all"));
  const auto backend = test::make_backend(GetParam());
  const auto prompt = golden.ids("prompt_ids");
  const auto wanted = golden.floats("logits");
  for (const auto& [dtype, tolerance] :
       {std::pair{DType::kBF16, test::kBf16CacheLogits}, {DType::kF8E4M3, test::kFp8CacheLogits}}) {
    LoadedModel loaded(golden.checkpoint(), *backend, dtype);
    const Rows rows = test::run_chunks(loaded, prompt, 16);
    const float largest = largest_difference(rows, wanted);
    EXPECT_LE(largest, std::max(tolerance, logits_bound(precision_of(GetParam()))))
        << to_string(dtype);
    EXPECT_GT(largest, test::kGoldenLogits) << to_string(dtype) << " was not used";
    EXPECT_EQ(test::run_chunks(loaded, prompt, 3), rows) << "bit-equal in other chunks";
  }
}

INSTANTIATE_TEST_SUITE_P(Backends,
                         GoldenOn,
                         testing::ValuesIn(test::backend_names()),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace facet
