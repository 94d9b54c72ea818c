// rms_norm and the fused ops made of it.

#include <cmath>
#include <fmt/core.h>

#include "tests/ops/op_test.h"

namespace facet::test {
namespace {

constexpr float kEps = 1e-6F;

/// The definition, row by row; an empty weight means none.
std::vector<Expected> normed(const Tensor& x, std::span<const float> weight, double eps) {
  const int64_t width = x.shape()[x.shape().rank() - 1];
  std::vector<Expected> result;
  for (int64_t row = 0; row < x.elements() / width; ++row) {
    double squares = 0;
    for (int64_t i = 0; i < width; ++i) squares += std::pow(x[row * width + i], 2);
    const double root = std::sqrt(squares / static_cast<double>(width) + eps);
    for (int64_t i = 0; i < width; ++i) {
      const double w = weight.empty() ? 1.0 : static_cast<double>(weight[static_cast<size_t>(i)]);
      result.push_back(exactly(static_cast<double>(x[row * width + i]) / root * w));
    }
  }
  return result;
}

class NormTest : public OpTest {};

TEST_P(NormTest, HandComputedWithoutPlusOne) {
  const Tensor x({1, 2}, {3, 4});  // mean of squares 12.5
  const std::vector<float> weight = {2, 0};
  Tensor out({1, 2});
  be().rms_norm(out.view(), x.view(), weight, 0.0F);
  EXPECT_NEAR(out[0], 6.0 / std::sqrt(12.5), 1e-6);
  EXPECT_EQ(out[1], 0.0F);  // with "+1" it would be 1.13
}

TEST_P(NormTest, AwkwardShapesWithAndWithoutWeight) {
  for (const int64_t width : kAwkwardWidths) {
    for (const int64_t rows : kAwkwardRows) {
      SCOPED_TRACE(fmt::format("[{}, {}]", rows, width));
      const Tensor x = Tensor::random({rows, width}, 11, 20.0F);
      const Tensor weight = Tensor::random({width}, 12, 3.0F);
      Tensor out({rows, width});
      be().rms_norm(out.view(), x.view(), weight.values(), kEps);
      expect_close(out, normed(x, weight.values(), kEps), kRounding);
      be().rms_norm(out.view(), x.view(), {}, kEps);
      expect_close(out, normed(x, {}, kEps), kRounding);
    }
  }
}

TEST_P(NormTest, InPlaceGivesTheSameBits) {
  for (const int64_t width : kAwkwardWidths) {
    Tensor x = Tensor::random({7, width}, 13);
    const Tensor weight = Tensor::random({width}, 14);
    Tensor out({7, width});
    be().rms_norm(out.view(), x.view(), weight.values(), kEps);
    be().rms_norm(x.view(), x.view(), weight.values(), kEps);
    expect_same_bits(x, out);
  }
}

TEST_P(NormTest, NormsTheLastAxisOfHeads) {
  const Tensor x = Tensor::random({3, 5, 32}, 15);
  const Tensor weight = Tensor::random({32}, 16);
  Tensor out({3, 5, 32});
  be().rms_norm(out.view(), x.view(), weight.values(), kEps);
  expect_close(out, normed(x, weight.values(), kEps), kRounding);
}

// eps stands inside the root, beside the mean: it decides for tiny rows, and zeros stay zeros.
TEST_P(NormTest, EpsStandsInsideTheRoot) {
  const Tensor tiny = Tensor::random({2, 17}, 17, 1e-3F);
  Tensor out({2, 17});
  be().rms_norm(out.view(), tiny.view(), {}, kEps);
  expect_close(out, normed(tiny, {}, kEps), kRounding);
  const Tensor zeros({1, 17}, std::vector<float>(17, 0.0F));
  Tensor still({1, 17});
  be().rms_norm(still.view(), zeros.view(), {}, kEps);
  expect_same_bits(still, zeros);
}

// The residual stream of large models reaches thousands; one outlier must not swamp the rest.
TEST_P(NormTest, LargeValues) {
  Tensor x = Tensor::random({2, 352}, 18, 4000.0F);
  x[5] = 6e4F;
  Tensor out({2, 352});
  be().rms_norm(out.view(), x.view(), {}, kEps);
  expect_close(out, normed(x, {}, kEps), kRounding);
}

TEST_P(NormTest, AddRmsNormIsItsFormula) {
  for (const float factor : {1.0F, 0.0059F, -2.5F}) {
    for (const int64_t width : kAwkwardWidths) {
      const Tensor before = Tensor::random({7, width}, 21, 50.0F);
      const Tensor h = Tensor::random({7, width}, 22);
      const Tensor weight = Tensor::random({width}, 23);
      std::vector<Expected> expected = normed(h, weight.values(), kEps);
      for (int64_t i = 0; i < before.elements(); ++i) {
        Expected& e = expected[static_cast<size_t>(i)];
        const auto x = static_cast<double>(before[i]);
        e.value = (x + e.value) * static_cast<double>(factor);
        e.magnitude = (std::abs(x) + e.magnitude) * std::abs(static_cast<double>(factor));
      }
      Tensor x = before;
      Tensor scratch = h;
      be().add_rms_norm(x.view(), scratch.view(), weight.values(), kEps, factor);
      expect_close(x, expected, kRounding);
    }
  }
}

// Fused equals composed. Both round a few times, in different places perhaps.
TEST_P(NormTest, AddRmsNormIsItsParts) {
  for (const float factor : {1.0F, 0.0059F}) {
    for (const int64_t width : kAwkwardWidths) {
      const Tensor before = Tensor::random({33, width}, 24, 50.0F);
      Tensor h = Tensor::random({33, width}, 25);
      const Tensor weight = Tensor::random({width}, 26);
      Tensor fused = before;
      Tensor scratch = h;
      be().add_rms_norm(fused.view(), scratch.view(), weight.values(), kEps, factor);
      Tensor composed = before;
      be().rms_norm(h.view(), h.view(), weight.values(), kEps);
      be().add(composed.view(), h.view());
      be().scale(composed.view(), factor);
      std::vector<Expected> expected;
      for (int64_t i = 0; i < fused.elements(); ++i) {
        const double size = std::abs(before[i]) + std::abs(h[i]);
        expected.push_back({composed[i], size * std::abs(static_cast<double>(factor))});
      }
      expect_close(fused, expected, kRounding);
    }
  }
}

TEST_P(NormTest, JoinBranchesIsItsFormulaAndItsParts) {
  for (const int64_t width : kAwkwardWidths) {
    const Tensor dense = Tensor::random({33, width}, 31, 5.0F);
    const Tensor sparse = Tensor::random({33, width}, 32, 0.1F);
    const Tensor dense_weight = Tensor::random({width}, 33);
    const Tensor sparse_weight = Tensor::random({width}, 34, 2.0F);
    std::vector<Expected> expected = normed(dense, dense_weight.values(), kEps);
    const std::vector<Expected> other = normed(sparse, sparse_weight.values(), kEps);
    for (size_t i = 0; i < expected.size(); ++i) {
      expected[i].value += other[i].value;
      expected[i].magnitude += other[i].magnitude;
    }
    Tensor fused = dense;
    Tensor fused_sparse = sparse;
    be().join_branches(fused.view(), fused_sparse.view(), dense_weight.values(),
                       sparse_weight.values(), kEps);
    expect_close(fused, expected, kRounding);

    Tensor composed = dense;
    Tensor composed_sparse = sparse;
    be().rms_norm(composed.view(), composed.view(), dense_weight.values(), kEps);
    be().rms_norm(composed_sparse.view(), composed_sparse.view(), sparse_weight.values(), kEps);
    be().add(composed.view(), composed_sparse.view());
    for (size_t i = 0; i < expected.size(); ++i)
      expected[i].value = composed[static_cast<int64_t>(i)];
    expect_close(fused, expected, kRounding);
  }
}

INSTANTIATE_TEST_SUITE_P(Backends, NormTest, testing::ValuesIn(backends()), backend_name);

}  // namespace
}  // namespace facet::test
