// The activation map, each pair of function and gating on each backend.

#include <cmath>
#include <fmt/core.h>
#include <limits>

#include "tests/ops/op_test.h"

namespace facet::test {
namespace {

/// f's natural size near z: the error of exp or tanh enters times |z| (times z² for relu2).
Expected activated(ActivationFunction function, double z, double up) {
  const double value = activation_value(function, z);
  const double size = function == ActivationFunction::kRelu2 ? std::abs(value) : std::abs(z);
  return {value * up, size * std::abs(up)};
}

class ActivationTest : public OpTest {
 protected:
  void check(const char* name, Gating gating, ActivationFunction function) {
    const std::optional<Activation> activation = find_activation(name, gating);
    ASSERT_TRUE(activation.has_value()) << name;
    ASSERT_EQ(activation->function, function);
    for (const float range : {0.01F, 3.0F, 20.0F, 200.0F}) {
      for (const int64_t rows : kAwkwardRows) {
        for (const int64_t width : kAwkwardWidths) check_shape(*activation, rows, width, range);
      }
    }
  }

 private:
  void check_shape(const Activation& activation, int64_t rows, int64_t width, float range) {
    SCOPED_TRACE(fmt::format("[{}, {}] range {}", rows, width, range));
    const bool gated = activation.gating == Gating::kGated;
    const Tensor gate = Tensor::random({rows, width}, 51, range);
    const Tensor up = Tensor::random({rows, width}, 52, gated ? 4.0F : range);
    std::vector<Expected> expected;
    for (int64_t i = 0; i < up.elements(); ++i) {
      expected.push_back(
          activated(activation.function, gated ? gate[i] : up[i], gated ? up[i] : 1.0));
    }
    const TensorView gate_view = gated ? gate.view() : TensorView();
    Tensor out({rows, width});
    be().activate(out.view(), gate_view, up.view(), activation);
    expect_close(out, expected, kTranscendental);

    Tensor over_up = up;
    be().activate(over_up.view(), gate_view, over_up.view(), activation);
    expect_same_bits(over_up, out, "out is up");
    if (!gated) return;
    Tensor over_gate = gate;
    be().activate(over_gate.view(), over_gate.view(), up.view(), activation);
    expect_same_bits(over_gate, out, "out is gate");
  }
};

TEST_P(ActivationTest, GatedSilu) { check("silu", Gating::kGated, ActivationFunction::kSilu); }
TEST_P(ActivationTest, GatedGelu) {
  check("gelu_pytorch_tanh", Gating::kGated, ActivationFunction::kGeluTanh);
}
TEST_P(ActivationTest, PlainSilu) { check("silu", Gating::kPlain, ActivationFunction::kSilu); }
TEST_P(ActivationTest, PlainGelu) { check("gelu", Gating::kPlain, ActivationFunction::kGeluTanh); }
TEST_P(ActivationTest, PlainRelu2) { check("relu2", Gating::kPlain, ActivationFunction::kRelu2); }

TEST_P(ActivationTest, TheGateIsWhatIsActivated) {
  const Tensor gate({1, 2}, {-50, 50});
  const Tensor up({1, 2}, {2, -3});
  Tensor out({1, 2});
  be().activate(out.view(), gate.view(), up.view(), {ActivationFunction::kSilu, Gating::kGated});
  EXPECT_NEAR(out[0], 0.0, 1e-6);
  EXPECT_NEAR(out[1], -150.0, 1e-4);
}

// The two forms of GELU differ by up to 4.7e-4, near |z| = 2.7: there the op must be the tanh form.
TEST_P(ActivationTest, GeluIsTheTanhFormNotErf) {
  const std::vector<float> points = {-3.0F, -2.7F, -2.3F, 1.0F, 1.5F, 2.3F, 2.7F};
  const Tensor z({1, 7}, points);
  const Tensor ones({1, 7}, std::vector<float>(7, 1.0F));
  Tensor plain({1, 7});
  Tensor gated({1, 7});
  be().activate(plain.view(), {}, z.view(), {ActivationFunction::kGeluTanh, Gating::kPlain});
  be().activate(gated.view(), z.view(), ones.view(),
                {ActivationFunction::kGeluTanh, Gating::kGated});
  for (int64_t i = 0; i < 7; ++i) {
    const auto point = static_cast<double>(points[static_cast<size_t>(i)]);
    const double wanted = activation_value(ActivationFunction::kGeluTanh, point);
    const double erf_form = 0.5 * point * (1 + std::erf(point / std::sqrt(2.0)));
    ASSERT_GT(std::abs(wanted - erf_form), 1e-4) << point;
    EXPECT_NEAR(plain[i], wanted, 1e-6) << point;
    EXPECT_NEAR(gated[i], wanted, 1e-6) << point;
  }
}

// Beyond the range of exp and of z³ the functions have limits, not NaN.
TEST_P(ActivationTest, EndsOfTheRange) {
  const Tensor z({1, 8}, {-1e4F, 1e4F, -1e14F, 1e14F, -89, 89, -104, 104});
  Tensor out({1, 8});
  for (const auto function : {ActivationFunction::kSilu, ActivationFunction::kGeluTanh}) {
    be().activate(out.view(), {}, z.view(), {function, Gating::kPlain});
    for (int64_t i = 0; i < 8; ++i) {
      EXPECT_NEAR(out[i], z[i] > 0 ? z[i] : 0.0F, 1e-6 * std::abs(z[i]))
          << static_cast<int>(function) << " " << z[i];
      EXPECT_LE(std::abs(out[i]), std::max(z[i], 1e-12F)) << z[i];
    }
  }
  be().activate(out.view(), {}, z.view(), {ActivationFunction::kRelu2, Gating::kPlain});
  for (int64_t i = 0; i < 8; ++i) EXPECT_FLOAT_EQ(out[i], z[i] > 0 ? z[i] * z[i] : 0.0F);
}

INSTANTIATE_TEST_SUITE_P(Backends, ActivationTest, testing::ValuesIn(backends()), backend_name);

}  // namespace
}  // namespace facet::test
