#include "kernels/cpu/cpu_backend.h"

#include <cmath>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <limits>

#include "kernels/cpu/test_matrix.h"
#include "tests/tolerance.h"

namespace facet::cpu {
namespace {

using test::MatrixKind;
using test::random_floats;
using test::same_bits;
using test::TestMatrix;
using test::view_of;
using testing::ElementsAre;

constexpr MatrixKind kBf16 = {"bf16", WeightFormat::kBF16};
constexpr MatrixKind kNvfp4 = {"nvfp4", WeightFormat::kNvfp4, DType::kF8E4M3, 16};

class CpuOps : public testing::TestWithParam<Isa> {
 protected:
  std::unique_ptr<Backend> backend(int32_t threads = 2) const {
    return make_cpu_backend({GetParam(), threads});
  }
};

double activated(ActivationFunction function, double z) {
  switch (function) {
    case ActivationFunction::kSilu:
      return z / (1.0 + std::exp(-z));
    case ActivationFunction::kGeluTanh:
      return 0.5 * z * (1.0 + std::tanh(std::sqrt(2.0 / M_PI) * (z + 0.044715 * z * z * z)));
    case ActivationFunction::kRelu2:
      break;
  }
  return z > 0.0 ? z * z : 0.0;
}

TEST_P(CpuOps, RmsNorm) {
  for (const int64_t width : {1, 3, 16, 33, 2816}) {
    std::vector<float> x = random_floats(3 * width, 1);
    const std::vector<float> weight = random_floats(width, 2);
    std::vector<float> out(x.size());
    for (const bool weighted : {true, false}) {
      const std::span<const float> w = weighted ? std::span(weight) : std::span<const float>();
      backend()->rms_norm(view_of(out, {3, width}), view_of(x, {3, width}), w, 1e-6F);
      for (int64_t t = 0; t < 3; ++t) {
        double squares = 0.0;
        for (int64_t i = 0; i < width; ++i) {
          squares += std::pow(static_cast<double>(x[static_cast<size_t>(t * width + i)]), 2);
        }
        const double factor = 1.0 / std::sqrt(squares / static_cast<double>(width) + 1e-6);
        for (int64_t i = 0; i < width; ++i) {
          const auto at = static_cast<size_t>(t * width + i);
          const double expected =
              static_cast<double>(x[at]) * factor *
              (weighted ? static_cast<double>(weight[static_cast<size_t>(i)]) : 1.0);
          ASSERT_NEAR(out[at], expected, std::fabs(expected) * facet::test::kRounding);
        }
      }
      std::vector<float> in_place = x;
      backend()->rms_norm(view_of(in_place, {3, width}), view_of(in_place, {3, width}), w, 1e-6F);
      EXPECT_TRUE(same_bits(in_place, out));
    }
  }
}

TEST_P(CpuOps, Activations) {
  std::vector<float> gate;
  for (float z = -90.0F; z < 90.0F; z += 0.0371F) gate.push_back(z);
  for (const float z : {0.0F, -0.0F, 1e-30F, -1e-30F, 1e-5F, -1e-5F, 1e9F, -1e9F}) {
    gate.push_back(z);
  }
  const auto n = static_cast<int64_t>(gate.size());
  const std::vector<float> up = random_floats(n, 3);
  for (const auto function :
       {ActivationFunction::kSilu, ActivationFunction::kGeluTanh, ActivationFunction::kRelu2}) {
    for (const Gating gating : {Gating::kGated, Gating::kPlain}) {
      const bool gated = gating == Gating::kGated;
      std::vector<float> out(gate.size());
      backend()->activate(view_of(out, {1, n}), gated ? view_of(gate, {1, n}) : TensorView(),
                          view_of(gated ? up : gate, {1, n}), {function, gating});
      for (size_t i = 0; i < out.size(); ++i) {
        const double z = static_cast<double>(gate[i]);
        const double factor = gated ? static_cast<double>(up[i]) : 1.0;
        const double expected = activated(function, z) * factor;
        // The natural size is z itself: far out on the left the value cancels to nothing.
        const double size = std::max(std::fabs(factor * z), std::fabs(expected));
        ASSERT_NEAR(out[i], expected, size * facet::test::kTranscendental + 1e-35)
            << static_cast<int>(function) << " of " << gate[i];
      }
    }
  }
}

TEST_P(CpuOps, NotANumberStaysOne) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (const size_t at : {size_t{0}, size_t{18}}) {  // in a whole vector, and at the end
    std::vector<float> x(19, 1.0F);
    x[at] = nan;
    std::vector<float> out(19);
    for (const auto function :
         {ActivationFunction::kSilu, ActivationFunction::kGeluTanh, ActivationFunction::kRelu2}) {
      backend()->activate(view_of(out, {1, 19}), {}, view_of(x, {1, 19}),
                          {function, Gating::kPlain});
      for (size_t i = 0; i < 19; ++i) EXPECT_EQ(std::isnan(out[i]), i == at);
    }
    backend()->soft_cap(view_of(x, {1, 19}), 30.0F);
    for (size_t i = 0; i < 19; ++i) EXPECT_EQ(std::isnan(x[i]), i == at);
  }
}

TEST_P(CpuOps, SoftCap) {
  std::vector<float> x;
  for (float z = -200.0F; z < 200.0F; z += 0.093F) x.push_back(z);
  x.insert(x.end(), {0.0F, 1e-6F, -1e-6F, 1e20F, -1e20F});
  const std::vector<float> before = x;
  backend()->soft_cap(view_of(x, {static_cast<int64_t>(x.size())}), 30.0F);
  for (size_t i = 0; i < x.size(); ++i) {
    const double expected = 30.0 * std::tanh(static_cast<double>(before[i]) / 30.0);
    ASSERT_NEAR(x[i], expected, std::fabs(expected) * facet::test::kTranscendental) << before[i];
  }
}

TEST_P(CpuOps, RotatesPairs) {
  const RopeTable table = make_rope_table(26, 10000.0, 11);  // two of 13 pairs stay
  std::vector<float> x = random_floats(2 * 3 * 26, 4);
  const std::vector<float> before = x;
  const std::vector<int32_t> positions = {7, 200001};
  backend()->rope(view_of(x, {2, 3, 26}), positions, table);
  for (size_t row = 0; row < 6; ++row) {
    for (size_t i = 0; i < 13; ++i) {
      const size_t a = row * 26 + i;
      const size_t b = a + 13;
      if (i >= 11) {
        EXPECT_EQ(x[a], before[a]);
        EXPECT_EQ(x[b], before[b]);
        continue;
      }
      const float angle = static_cast<float>(positions[row / 3]) * table.frequencies[i];
      const double c = std::cos(static_cast<double>(angle));
      const double s = std::sin(static_cast<double>(angle));
      EXPECT_NEAR(x[a], before[a] * c - before[b] * s, 4 * facet::test::kRotation);
      EXPECT_NEAR(x[b], before[b] * c + before[a] * s, 4 * facet::test::kRotation);
    }
  }
}

TEST_P(CpuOps, EmbedsAndGathers) {
  const TestMatrix table(kBf16, 9, 37, 5);
  const std::vector<float> values = table.values();
  std::vector<float> out(3 * 37);
  const std::vector<int32_t> ids = {8, 0, 8};
  backend()->embed(view_of(out, {3, 37}), table.view(), ids, 2.5F);
  for (size_t i = 0; i < out.size(); ++i) {
    EXPECT_EQ(out[i], values[static_cast<size_t>(ids[i / 37]) * 37 + i % 37] * 2.5F);
  }
  std::vector<float> gathered(2 * 37);
  backend()->gather_rows(view_of(gathered, {2, 37}), view_of(out, {3, 37}),
                         std::vector<int32_t>{1, 1});
  EXPECT_TRUE(same_bits(std::span(gathered).first(37), std::span(out).subspan(37, 37)));
  EXPECT_TRUE(same_bits(std::span(gathered).last(37), std::span(out).subspan(37, 37)));
}

TEST_P(CpuOps, RoutesTiesToTheLowerIndex) {
  // Columns 0 and 1 of the projection decide; experts 1, 3 and 4 are equal, 2 is the best.
  const std::vector<float> proj = {0, 0, 0, 0, 1, 0, 0, 0, 2,  0, 0, 0,
                                   1, 0, 0, 0, 1, 0, 0, 0, -1, 0, 0, 0};
  WeightMatrix w;
  w.format = WeightFormat::kF32;
  w.rows = 6;
  w.cols = 4;
  w.data = reinterpret_cast<const std::byte*>(proj.data());
  const std::vector<float> scale(4, 1.0F);
  const std::vector<float> per_expert = {1, 10, 100, 1000, 1, 1};
  const std::vector<float> x = {1, 1, 1, 1, -1, 1, 1, 1};
  std::vector<int32_t> experts(6, -1);
  std::vector<float> weights(6);
  backend()->route({view_of(experts, {2, 3}), view_of(weights, {2, 3})}, view_of(x, {2, 4}),
                   {w, scale, per_expert}, 0.0F);
  EXPECT_THAT(experts, ElementsAre(2, 1, 3, 5, 0, 1));
  // Logits are half the projection's column: H^(-1/2) = 1/2.
  const double best = std::exp(1.0);
  const double next = std::exp(0.5);
  const double total = best + 2 * next;
  EXPECT_NEAR(weights[0], 100 * best / total, 100 * facet::test::kTranscendental);
  EXPECT_NEAR(weights[1], 10 * next / total, 10 * facet::test::kTranscendental);
  EXPECT_NEAR(weights[2], 1000 * next / total, 1000 * facet::test::kTranscendental);
}

/// `count` experts of [inner, hidden] and what they make of a row.
struct TestExperts {
  TestExperts(const MatrixKind& kind, size_t count, int64_t hidden, int64_t inner, bool gated) {
    for (size_t e = 0; e < count; ++e) {
      const auto seed = static_cast<uint32_t>(10 * e);
      matrices.emplace_back(kind, inner, hidden, seed + 1);
      matrices.emplace_back(kind, inner, hidden, seed + 2);
      matrices.emplace_back(kind, hidden, inner, seed + 3);
    }
    for (size_t e = 0; e < count; ++e) {
      weights.experts.push_back({gated ? matrices[3 * e].view() : WeightMatrix(),
                                 matrices[3 * e + 1].view(), matrices[3 * e + 2].view()});
    }
  }
  std::vector<TestMatrix> matrices;
  ExpertWeights weights;
};

std::vector<double> times(const TestMatrix& w, const std::vector<double>& x) {
  const std::vector<float> values = w.values();
  std::vector<double> out(static_cast<size_t>(w.view().rows));
  for (size_t r = 0; r < out.size(); ++r) {
    for (size_t c = 0; c < x.size(); ++c) {
      out[r] += static_cast<double>(values[r * x.size() + c]) * x[c];
    }
  }
  return out;
}

TEST_P(CpuOps, Experts) {
  for (const MatrixKind& kind : {kBf16, kNvfp4}) {
    for (const bool gated : {true, false}) {
      const int64_t hidden = 64;
      const int64_t inner = 48;
      const int64_t rows = 9;
      const TestExperts experts(kind, 6, hidden, inner, gated);
      const Activation activation = {
          gated ? ActivationFunction::kGeluTanh : ActivationFunction::kRelu2,
          gated ? Gating::kGated : Gating::kPlain};
      const std::vector<float> x = random_floats(rows * hidden, 6);
      std::vector<int32_t> chosen;  // expert 4 has no row, expert 2 all
      for (int32_t t = 0; t < rows; ++t) chosen.insert(chosen.end(), {2, t % 2 == 0 ? 0 : 5});
      const std::vector<float> weights = random_floats(rows * 2, 7);
      std::vector<float> out(x.size(), std::numeric_limits<float>::quiet_NaN());
      backend()->experts(view_of(out, {rows, hidden}), view_of(x, {rows, hidden}), experts.weights,
                         {view_of(chosen, {rows, 2}), view_of(weights, {rows, 2})}, activation);
      for (int64_t t = 0; t < rows; ++t) {
        const std::vector<double> row(x.begin() + t * hidden, x.begin() + (t + 1) * hidden);
        std::vector<double> expected(static_cast<size_t>(hidden));
        std::vector<double> size(static_cast<size_t>(hidden));
        for (size_t k = 0; k < 2; ++k) {
          const auto pair = static_cast<size_t>(2 * t) + k;
          const auto e = static_cast<size_t>(chosen[pair]);
          const std::vector<double> gate = times(experts.matrices[3 * e], row);
          std::vector<double> up = times(experts.matrices[3 * e + 1], row);
          for (size_t i = 0; i < up.size(); ++i) {
            up[i] = gated ? activated(activation.function, gate[i]) * up[i]
                          : activated(activation.function, up[i]);
          }
          const std::vector<double> down = times(experts.matrices[3 * e + 2], up);
          double most = 0.0;
          for (const double value : down) most = std::max(most, std::fabs(value));
          for (size_t i = 0; i < down.size(); ++i) {
            expected[i] += static_cast<double>(weights[pair]) * down[i];
            size[i] += std::fabs(static_cast<double>(weights[pair])) * most;
          }
        }
        for (size_t i = 0; i < expected.size(); ++i) {
          ASSERT_NEAR(out[static_cast<size_t>(t * hidden) + i], expected[i],
                      size[i] * facet::test::kAttention)
              << "row " << t << " of " << kind.name;
        }
      }
    }
  }
}

TEST_P(CpuOps, ExpertRowsDoNotDependOnEachOther) {
  const int64_t hidden = 80;
  const int64_t inner = 112;
  const int64_t most = 1100;  // more than one pass
  const TestExperts experts(kNvfp4, 16, hidden, inner, true);
  const Activation activation;
  const std::vector<float> x = random_floats(most * hidden, 8);
  const std::vector<float> weights = random_floats(most * 4, 9);
  std::vector<int32_t> chosen;
  std::mt19937 random(10);
  for (int64_t i = 0; i < most * 4; ++i) chosen.push_back(static_cast<int32_t>(random() % 16));
  std::vector<float> all(x.size());
  backend(1)->experts(view_of(all, {most, hidden}), view_of(x, {most, hidden}), experts.weights,
                      {view_of(chosen, {most, 4}), view_of(weights, {most, 4})}, activation);
  for (const int64_t rows : {1, 2, 3, 5, 8, 33, 600}) {
    for (const int32_t threads : {1, 3}) {
      const int64_t first = most - rows;
      std::vector<float> out(static_cast<size_t>(rows * hidden));
      backend(threads)->experts(view_of(out, {rows, hidden}),
                                view_of(x, {most, hidden}).slice_rows(first, rows), experts.weights,
                                {view_of(chosen, {most, 4}).slice_rows(first, rows),
                                 view_of(weights, {most, 4}).slice_rows(first, rows)},
                                activation);
      EXPECT_TRUE(same_bits(out, std::span(all).last(out.size()))) << rows << " rows";
    }
  }
}

TEST_P(CpuOps, ElementsDoNotDependOnTheirPlace) {
  // The same 100003 values at another offset and with other threads: pieces and vectors fall
  // differently.
  const int64_t n = 100003;
  const std::vector<float> x = random_floats(n + 5, 11);
  for (const int32_t threads : {1, 3}) {
    std::vector<float> all = x;
    backend(1)->soft_cap(view_of(all, {n + 5}), 2.0F);
    std::vector<float> part(x.begin() + 5, x.end());
    backend(threads)->soft_cap(view_of(part, {n}), 2.0F);
    EXPECT_TRUE(same_bits(part, std::span(all).subspan(5)));

    backend(1)->activate(view_of(all, {n + 5}), {}, view_of(x, {n + 5}),
                         {ActivationFunction::kGeluTanh, Gating::kPlain});
    const std::vector<float> shifted(x.begin() + 5, x.end());
    backend(threads)->activate(view_of(part, {n}), {}, view_of(shifted, {n}),
                               {ActivationFunction::kGeluTanh, Gating::kPlain});
    EXPECT_TRUE(same_bits(part, std::span(all).subspan(5)));
  }
}

INSTANTIATE_TEST_SUITE_P(All, CpuOps, testing::ValuesIn(supported_isas()), [](const auto& info) {
  return test::isa_name(info.param);
});

}  // namespace
}  // namespace facet::cpu
