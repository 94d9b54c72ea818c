#include "model/gemma4/step_cost.h"

#include <array>
#include <gtest/gtest.h>

#include "checkpoint/checkpoint.h"
#include "tests/support.h"

namespace facet::gemma4 {
namespace {

struct Loaded {
  explicit Loaded(const char* golden)
      : checkpoint(test::data_path(std::string("goldens/") + golden)),
        config(Gemma4Config::parse(checkpoint.config())),
        weights(load_weights(checkpoint,
                             config,
                             QuantConfig::parse(checkpoint.config(), checkpoint.hf_quant_config()),
                             *find_activation(config.hidden_activation))),
        counter(config) {}

  StepCost cost(std::span<const SequenceShape> sequences, int64_t logit_rows) const {
    return step_cost(config, weights, DType::kBF16, sequences, logit_rows, counter);
  }
  /// As if a step with one row had chosen these experts in every layer.
  void choose(const std::vector<int32_t>& experts) {
    const Shape shape = {1, static_cast<int64_t>(experts.size())};
    for (int32_t l = 0; l < config.num_hidden_layers; ++l) {
      counter.routing(l, {{experts.data(), DType::kI32, shape}, {}});
    }
  }

  Checkpoint checkpoint;
  Gemma4Config config;
  Weights weights;
  ExpertCounter counter;
};

constexpr std::array<SequenceShape, 1> kOneToken = {{{1, 0}}};

// moe-fp8-dynamic: H 112, I 112, 8 experts of 48, top 2, Q 4; two sliding layers with K 2, D 32,
// window 16, and a full one with K 1, D 64 that has no v_proj; V 320.
constexpr int64_t kSlidingAttention = 112 * 128 + 2 * (112 * 64) + 128 * 112;
constexpr int64_t kFullAttention = 112 * 256 + 112 * 64 + 256 * 112;
constexpr int64_t kMlp = 3 * 112 * 112;
constexpr int64_t kExpert = 3 * 112 * 48;
constexpr int64_t kRouter = 8 * 112;
constexpr int64_t kHead = 320 * 112;

TEST(StepCost, OneTokenReadsEachMatrixOnceAndTheChosenExperts) {
  Loaded loaded("moe-fp8-dynamic");
  loaded.choose({3, 5});
  const StepCost cost = loaded.cost(kOneToken, 1);
  const int64_t values = 2 * kSlidingAttention + kFullAttention + 3 * (kMlp + 2 * kExpert);
  // FP8 rows have a scale each.
  const DType scales = loaded.weights.layers[0].self_attn.q_proj.scale_dtype;
  const int64_t rows = 2 * (128 + 64 + 64 + 112) + (256 + 64 + 112) + 3 * (112 + 112 + 112) +
                       3 * 2 * (48 + 48 + 112);
  const int64_t plain = 3 * kRouter + kHead;
  EXPECT_EQ(cost.weight_bytes, values + rows * bits_of(scales) / 8 + 2 * plain);
  EXPECT_EQ(cost.kv_bytes, 2 * (2 * 2 * 2 * 32) + 2 * 2 * 64);
  const double attention = 2 * 2 * 4 * 32 + 2 * 4 * 64;
  EXPECT_EQ(cost.flops, 2 * (static_cast<double>(values + plain) + attention));
}

TEST(StepCost, AnExpertIsReadOnceHoweverManyRowsChooseIt) {
  Loaded loaded("moe-fp8-dynamic");
  loaded.choose({3, 5});
  const int64_t two = loaded.cost(kOneToken, 1).weight_bytes;
  loaded.choose({5, 3});
  EXPECT_EQ(loaded.cost(kOneToken, 1).weight_bytes, two);
  loaded.choose({5, 6});
  const int64_t three = loaded.cost(kOneToken, 1).weight_bytes;
  const ExpertMatrices& expert = loaded.weights.layers[0].experts.experts[6];
  EXPECT_EQ(three - two,
            3 * (stored_bytes(expert.gate) + stored_bytes(expert.up) + stored_bytes(expert.down)));
  loaded.counter.clear();
  loaded.choose({3, 5});
  EXPECT_EQ(loaded.cost(kOneToken, 1).weight_bytes, two);
}

TEST(StepCost, SlidingLayersSeeTheirWindow) {
  Loaded loaded("moe-fp8-dynamic");
  constexpr std::array<SequenceShape, 2> kDecodes = {{{1, 100}, {1, 7}}};
  const StepCost cost = loaded.cost(kDecodes, 2);
  EXPECT_EQ(cost.kv_bytes, 2 * (16 + 8) * (2 * 2 * 2 * 32) + (101 + 8) * (2 * 2 * 64));
  // A chunk of 10 rows sees what its first row sees and its own positions.
  constexpr std::array<SequenceShape, 1> kChunk = {{{10, 100}}};
  EXPECT_EQ(loaded.cost(kChunk, 0).kv_bytes, 2 * 25 * (2 * 2 * 2 * 32) + 110 * (2 * 2 * 64));
}

TEST(StepCost, WithoutLogitsTheHeadIsNotRead) {
  Loaded loaded("moe-fp8-dynamic");
  constexpr std::array<SequenceShape, 1> kChunk = {{{4, 0}}};
  const StepCost with = loaded.cost(kChunk, 1);
  const StepCost without = loaded.cost(kChunk, 0);
  EXPECT_EQ(with.weight_bytes - without.weight_bytes, 2 * kHead - 4 * 2 * 112);
  EXPECT_EQ(with.flops - without.flops, 2.0 * kHead);
}

}  // namespace
}  // namespace facet::gemma4
