// The router: scaled norm, softmax over all experts, top_k, renormalised, per-expert scale.

#include <algorithm>
#include <cmath>
#include <fmt/core.h>
#include <limits>
#include <numeric>
#include <set>

#include "tests/ops/moe_step.h"

namespace facet::test {
namespace {

constexpr float kEps = 1e-6F;

class RouteTest : public OpTest {
 protected:
  Choice run(const Tensor& x, const RouterWeightsView& router, int64_t top_k) {
    Choice choice(x.shape()[0], top_k);
    be().route(choice.routing(), x.view(), router, kEps);
    return choice;
  }
};

/// Router probabilities of one row, all in double.
std::vector<double> probabilities(const Tensor& x, const RouterWeightsView& router) {
  const int64_t width = x.elements();
  double squares = 0;
  for (const float value : x.values()) squares += std::pow(value, 2);
  const double inverse =
      1 / std::sqrt(squares / static_cast<double>(width) + static_cast<double>(kEps));
  Tensor z({1, width});
  for (int64_t i = 0; i < width; ++i) {
    z[i] = static_cast<float>(x[i] * inverse * router.scale[static_cast<size_t>(i)] /
                              std::sqrt(static_cast<double>(width)));
  }
  std::vector<double> result;
  for (const Expected& logit : expected_linear(z, router.proj))
    result.push_back(std::exp(logit.value));
  const double total = std::accumulate(result.begin(), result.end(), 0.0);
  for (double& p : result) p /= total;
  return result;
}

/// Holds one row's choice against its probabilities. Two experts closer than kRouterTie may stand
/// either way.
void expect_choice(const Choice& choice,
                   int64_t row,
                   const std::vector<double>& p,
                   std::span<const float> per_expert_scale) {
  std::vector<double> sorted = p;
  std::sort(sorted.begin(), sorted.end(), std::greater<>());
  const int64_t top_k = choice.top_k();
  const double total = std::accumulate(sorted.begin(), sorted.begin() + top_k, 0.0);
  std::set<int32_t> seen;
  for (int64_t j = 0; j < top_k; ++j) {
    const int32_t e = choice.expert(row, j);
    ASSERT_TRUE(e >= 0 && static_cast<size_t>(e) < p.size()) << e;
    ASSERT_TRUE(seen.insert(e).second) << "expert " << e << " twice";
    const double wanted = sorted[static_cast<size_t>(j)];
    ASSERT_NEAR(p[static_cast<size_t>(e)], wanted, kRouterTie * wanted) << "choice " << j;
    const double weight = wanted / total * per_expert_scale[static_cast<size_t>(e)];
    ASSERT_NEAR(choice.weights()[row * top_k + j], weight, 2 * kRouterTie * std::abs(weight));
  }
}

TEST_P(RouteTest, AwkwardShapesInEveryPlainFormat) {
  struct Case {
    int64_t hidden, experts, top_k;
  };
  for (const Case& c :
       {Case{112, 8, 2}, {352, 128, 8}, {17, 5, 1}, {3, 3, 3}, {64, 1, 1}, {64, 1024, 32}}) {
    for (const MatrixKind& kind : {kMatrixKinds[0], kMatrixKinds[1], kMatrixKinds[2]}) {
      const StoredMatrix proj(kind, c.experts, c.hidden, 61);
      const Tensor scale = Tensor::random({c.hidden}, 62, 8.0F);
      const Tensor per_expert = Tensor::random({c.experts}, 63, 2.0F);
      const RouterWeightsView router = {proj.matrix(), scale.values(), per_expert.values()};
      for (const int64_t rows : kAwkwardRows) {
        SCOPED_TRACE(fmt::format("{} T {} E {} top {}", kind.name, rows, c.experts, c.top_k));
        const Tensor x = Tensor::random({rows, c.hidden}, 64, 30.0F);
        const Choice choice = run(x, router, c.top_k);
        for (int64_t t = 0; t < rows; ++t) {
          expect_choice(choice, t, probabilities(x.rows(t, 1), router), per_expert.values());
        }
      }
    }
  }
}

// logit_e = x_e / rms(x) * 2^(-1/2) for H = 2 and an identity: the norm, the root and the
// renormalisation each leave their mark.
TEST_P(RouteTest, HandComputed) {
  const StoredMatrix proj(3, 2, {2, 0, 0, 2, 0, 0});
  const std::vector<float> scale = {1, 3};
  const std::vector<float> per_expert = {10, 100, 1000};
  const Tensor x({1, 2}, {3, 4});  // rms = sqrt(12.5)
  const Choice choice = run(x, {proj.matrix(), scale, per_expert}, 2);
  const double root = std::sqrt(12.5) * std::sqrt(2.0);
  const double a = std::exp(2 * 3 / root);
  const double b = std::exp(2 * 4 * 3 / root);
  EXPECT_EQ(choice.expert(0, 0), 1);
  EXPECT_EQ(choice.expert(0, 1), 0);
  EXPECT_NEAR(choice.weights()[0], 100 * b / (a + b), 1e-3);
  EXPECT_NEAR(choice.weights()[1], 10 * a / (a + b), 1e-4);
}

// The per-expert factor comes after the choice and after renormalisation: it moves neither.
TEST_P(RouteTest, PerExpertScaleComesLast) {
  const StoredMatrix proj(kF32Kind, 6, 32, 65);
  const std::vector<float> scale(32, 1.0F);
  const std::vector<float> ones(6, 1.0F);
  const std::vector<float> factors = {0.0F, 5.0F, -1.0F, 0.001F, 300.0F, 2.0F};
  const Tensor x = Tensor::random({33, 32}, 66);
  const Choice plain = run(x, {proj.matrix(), scale, ones}, 3);
  const Choice scaled = run(x, {proj.matrix(), scale, factors}, 3);
  for (int64_t t = 0; t < 33; ++t) {
    float total = 0;
    for (int64_t j = 0; j < 3; ++j) {
      const int32_t e = plain.expert(t, j);
      ASSERT_EQ(scaled.expert(t, j), e);
      ASSERT_FLOAT_EQ(scaled.weights()[t * 3 + j],
                      plain.weights()[t * 3 + j] * factors[static_cast<size_t>(e)]);
      total += plain.weights()[t * 3 + j];
    }
    ASSERT_NEAR(total, 1.0F, 1e-6);
  }
}

TEST_P(RouteTest, TiesGoToTheLowerIndex) {
  const std::vector<float> scale(4, 1.0F);
  const Tensor x({1, 4}, {1, 2, 3, 4});
  // All equal.
  const StoredMatrix flat(20, 4, std::vector<float>(80, 0.0F));
  const std::vector<float> ones(20, 1.0F);
  const Choice equal = run(x, {flat.matrix(), scale, ones}, 8);
  for (int32_t j = 0; j < 8; ++j) {
    EXPECT_EQ(equal.expert(0, j), j);
    EXPECT_FLOAT_EQ(equal.weights()[j], 0.125F);
  }
  // 3, 7 and 19 lead alike, 1 and 12 follow alike; the others stand below them.
  std::vector<float> rows(80, -1.0F);
  for (const int64_t e : {3, 7, 19}) std::fill_n(rows.begin() + 4 * e, 4, 1.0F);
  for (const int64_t e : {1, 12}) std::fill_n(rows.begin() + 4 * e, 4, 0.5F);
  const StoredMatrix proj(20, 4, rows);
  const Choice choice = run(x, {proj.matrix(), scale, ones}, 6);
  const std::vector<int32_t> wanted = {3, 7, 19, 1, 12, 0};
  for (int64_t j = 0; j < 6; ++j) EXPECT_EQ(choice.expert(0, j), wanted[static_cast<size_t>(j)]);
}

// One expert so far ahead that the others' probabilities vanish: still a full, valid choice.
TEST_P(RouteTest, ExtremeLogits) {
  std::vector<float> rows(4 * 16, 0.0F);
  for (size_t i = 0; i < 4; ++i) rows[4 * 9 + i] = 1e4F;
  const StoredMatrix proj(16, 4, rows);
  const std::vector<float> scale(4, 1.0F);
  const std::vector<float> ones(16, 1.0F);
  const Choice choice = run(Tensor({1, 4}, {1, 1, 1, 1}), {proj.matrix(), scale, ones}, 3);
  EXPECT_EQ(choice.expert(0, 0), 9);
  EXPECT_EQ(choice.expert(0, 1), 0);
  EXPECT_EQ(choice.expert(0, 2), 1);
  EXPECT_FLOAT_EQ(choice.weights()[0], 1.0F);
  EXPECT_FLOAT_EQ(choice.weights()[1], 0.0F);
}

// A broken checkpoint may bring NaN here. The choice must still be of experts that exist.
TEST_P(RouteTest, NanStillChoosesDifferentExperts) {
  const StoredMatrix proj(kF32Kind, 16, 32, 67);
  const std::vector<float> scale(32, 1.0F);
  const std::vector<float> ones(16, 1.0F);
  Tensor x = Tensor::random({3, 32}, 68);
  x[32 + 5] = std::numeric_limits<float>::quiet_NaN();
  const Choice choice = run(x, {proj.matrix(), scale, ones}, 8);
  for (int64_t t = 0; t < 3; ++t) {
    std::set<int32_t> seen;
    for (int64_t j = 0; j < 8; ++j) {
      const int32_t e = choice.expert(t, j);
      EXPECT_TRUE(e >= 0 && e < 16) << e;
      EXPECT_TRUE(seen.insert(e).second) << e;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Backends, RouteTest, testing::ValuesIn(backends()), backend_name);

}  // namespace
}  // namespace facet::test
