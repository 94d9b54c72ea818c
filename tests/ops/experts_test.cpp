// Routed experts: every format, awkward widths, uneven loads, every activation.

#include <fmt/core.h>

#include "tests/ops/moe_step.h"

namespace facet::test {
namespace {

constexpr Activation kGeGlu = {ActivationFunction::kGeluTanh, Gating::kGated};

ExpertKind all_of(const MatrixKind& kind) { return {kind, kind, kind}; }

class ExpertsTest : public OpTest {
 protected:
  void check(const StoredExperts& experts,
             int64_t hidden,
             const Choice& choice,
             const Activation& activation = kGeGlu) {
    const int64_t rows = choice.weights().shape()[0];
    const Tensor x = Tensor::random({rows, hidden}, 71);
    Tensor out({rows, hidden});
    be().experts(out.view(), x.view(), experts.weights(), choice.routing(), activation);
    expect_close(out, expected_experts(entering(x), experts.weights(), choice, activation),
                 experts_tolerance());
  }

  void check_kind(const char* name) {
    for (const MatrixKind& kind : kMatrixKinds) {
      if (kind.name != std::string(name)) continue;
      const int64_t step = kind.column_step;
      const int64_t hidden = step == 1 ? 50 : step == 16 ? 112 : 2 * step;
      const int64_t width = step == 1 ? 17 : step == 16 ? 48 : 3 * step;
      const StoredExperts experts({all_of(kind)}, 5, hidden, width, Gating::kGated, 80);
      for (const int64_t rows : kAwkwardRows) {
        for (const int64_t top_k : {1, 3}) {
          SCOPED_TRACE(fmt::format("{}: T {} top {}", name, rows, top_k));
          check(experts, hidden, Choice::random(rows, top_k, 5, 81));
        }
      }
      return;
    }
    FAIL() << "no kind is called " << name;
  }

  void check_activation(const char* name, Gating gating) {
    const std::optional<Activation> activation = find_activation(name, gating);
    ASSERT_TRUE(activation.has_value());
    const StoredExperts experts({all_of(kF32Kind)}, 4, 33, 19, gating, 82);
    check(experts, 33, Choice::random(9, 2, 4, 83), *activation);
    const StoredExperts packed({all_of(kMatrixKinds[7])}, 4, 64, 48, gating, 84);
    check(packed, 64, Choice::random(9, 2, 4, 85), *activation);
  }
};

TEST_P(ExpertsTest, F32) { check_kind("f32"); }
TEST_P(ExpertsTest, F16) { check_kind("f16"); }
TEST_P(ExpertsTest, Bf16) { check_kind("bf16"); }
TEST_P(ExpertsTest, Fp8PerRow) { check_kind("fp8 per row"); }
TEST_P(ExpertsTest, Fp8PerTensor) { check_kind("fp8 per tensor"); }
TEST_P(ExpertsTest, Fp8Blocks) { check_kind("fp8 blocks"); }
TEST_P(ExpertsTest, Nvfp4) { check_kind("nvfp4"); }
TEST_P(ExpertsTest, Int4Groups32) { check_kind("int4 g32"); }
TEST_P(ExpertsTest, Int4Groups128) { check_kind("int4 g128"); }

TEST_P(ExpertsTest, GatedSilu) { check_activation("silu", Gating::kGated); }
TEST_P(ExpertsTest, GatedGelu) { check_activation("gelu_pytorch_tanh", Gating::kGated); }
TEST_P(ExpertsTest, PlainSilu) { check_activation("silu", Gating::kPlain); }
TEST_P(ExpertsTest, PlainGelu) { check_activation("gelu", Gating::kPlain); }
TEST_P(ExpertsTest, PlainRelu2) { check_activation("relu2", Gating::kPlain); }

TEST_P(ExpertsTest, WidthsThatFitNoTile) {
  for (const MatrixKind& kind : {kMatrixKinds[0], kMatrixKinds[2], kMatrixKinds[3]}) {
    for (const int64_t width : {1, 3, 88, 127, 176}) {
      SCOPED_TRACE(fmt::format("{} F {}", kind.name, width));
      const StoredExperts experts({all_of(kind)}, 3, 37, width, Gating::kGated, 86);
      check(experts, 37, Choice::random(7, 2, 3, 87));
    }
  }
}

TEST_P(ExpertsTest, AllRowsOnOneExpertAndTheRestEmpty) {
  const StoredExperts experts({all_of(kMatrixKinds[7])}, 8, 64, 48, Gating::kGated, 88);
  for (const int64_t rows : kAwkwardRows) {
    for (const int32_t e : {0, 3, 7}) {
      check(experts, 64, Choice(1, std::vector<int32_t>(static_cast<size_t>(rows), e), 89));
    }
  }
}

TEST_P(ExpertsTest, UnevenLoads) {
  const StoredExperts experts({all_of(kF32Kind)}, 6, 32, 24, Gating::kGated, 90);
  std::vector<int32_t> chosen;
  for (int32_t t = 0; t < 33; ++t) {  // expert 2 takes every row, 5 one, 0 and 3 none
    chosen.push_back(2);
    chosen.push_back(t == 17 ? 5 : t % 2 == 0 ? 1 : 4);
  }
  check(experts, 32, Choice(2, chosen, 91));
}

TEST_P(ExpertsTest, EveryExpertOfEveryRow) {
  const StoredExperts one({all_of(kF32Kind)}, 1, 16, 8, Gating::kGated, 92);
  check(one, 16, Choice::random(7, 1, 1, 93));
  const StoredExperts four({all_of(kF32Kind)}, 4, 16, 8, Gating::kGated, 94);
  check(four, 16, Choice::random(7, 4, 4, 95));
}

TEST_P(ExpertsTest, ManyExpertsFewRows) {
  const StoredExperts experts({all_of(kMatrixKinds[7])}, 128, 48, 32, Gating::kGated, 96);
  for (const int64_t rows : {1, 7}) check(experts, 48, Choice::random(rows, 8, 128, 97));
}

TEST_P(ExpertsTest, MatricesOfDifferentFormats) {
  const std::vector<ExpertKind> kinds = {{kMatrixKinds[3], kMatrixKinds[7], kMatrixKinds[2]},
                                         all_of(kMatrixKinds[8]),
                                         {kMatrixKinds[7], kMatrixKinds[7], kMatrixKinds[5]}};
  const StoredExperts experts(kinds, 5, 64, 96, Gating::kGated, 98);
  check(experts, 64, Choice::random(9, 3, 5, 99));
}

// A weight of zero takes its expert out; a negative one turns it round.
TEST_P(ExpertsTest, WeightsAreFactors) {
  const StoredExperts experts({all_of(kF32Kind)}, 2, 16, 8, Gating::kGated, 100);
  const Tensor x = Tensor::random({1, 16}, 101);
  Choice choice(2, {1, 0}, 0);
  choice.weights() = Tensor({1, 2}, {-2.0F, 0.0F});
  Tensor out({1, 16});
  be().experts(out.view(), x.view(), experts.weights(), choice.routing(), kGeGlu);
  Choice single(1, {1}, 0);
  single.weights() = Tensor({1, 1}, {1.0F});
  Tensor plain({1, 16});
  be().experts(plain.view(), x.view(), experts.weights(), single.routing(), kGeGlu);
  for (int64_t i = 0; i < 16; ++i) EXPECT_FLOAT_EQ(out[i], -2.0F * plain[i]);
}

// More pairs of row and expert than a grid is high.
TEST_P(ExpertsTest, MorePairsThanFitOneLaunch) {
  const StoredExperts experts({all_of(kF32Kind)}, 3, 4, 2, Gating::kGated, 102);
  check(experts, 4, Choice::random(33000, 2, 3, 103));
}

INSTANTIATE_TEST_SUITE_P(Backends, ExpertsTest, testing::ValuesIn(backends()), backend_name);

}  // namespace
}  // namespace facet::test
