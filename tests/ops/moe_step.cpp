#include "tests/ops/moe_step.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>
#include <random>

namespace facet::test {

Choice::Choice(int64_t rows, int64_t top_k)
    : experts_(static_cast<size_t>(rows * top_k), -1), weights_({rows, top_k}) {}

Choice::Choice(int64_t top_k, std::vector<int32_t> experts, uint32_t seed)
    : experts_(std::move(experts)),
      weights_(Tensor::random({static_cast<int64_t>(experts_.size()) / top_k, top_k}, seed)) {}

Choice Choice::random(int64_t rows, int64_t top_k, int32_t count, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<int32_t> ids(static_cast<size_t>(count));
  std::iota(ids.begin(), ids.end(), 0);
  std::vector<int32_t> experts;
  for (int64_t t = 0; t < rows; ++t) {
    std::shuffle(ids.begin(), ids.end(), random);
    experts.insert(experts.end(), ids.begin(), ids.begin() + top_k);
  }
  return {top_k, std::move(experts), seed + 1};
}

Routing Choice::routing() const {
  return {{experts_.data(), DType::kI32, weights_.shape()}, weights_.view()};
}

int32_t Choice::expert(int64_t row, int64_t j) const {
  return experts_[static_cast<size_t>(row * top_k() + j)];
}

Choice Choice::rows(int64_t begin, int64_t count) const {
  const auto from = experts_.begin() + begin * top_k();
  Choice result(top_k(), {from, from + count * top_k()}, 0);
  result.weights_ = weights_.rows(begin, count);
  return result;
}

bool Choice::operator==(const Choice& other) const {
  const auto same = [](float a, float b) {
    return std::bit_cast<uint32_t>(a) == std::bit_cast<uint32_t>(b);
  };
  return experts_ == other.experts_ &&
         std::ranges::equal(weights_.values(), other.weights_.values(), same);
}

StoredExperts::StoredExperts(const std::vector<ExpertKind>& kinds,
                             int32_t count,
                             int64_t hidden,
                             int64_t width,
                             Gating gating,
                             uint32_t seed) {
  for (int32_t e = 0; e < count; ++e) {
    const ExpertKind& kind = kinds[static_cast<size_t>(e) % kinds.size()];
    const uint32_t own = seed + 10 * static_cast<uint32_t>(e);
    ExpertMatrices expert;
    const auto keep = [this](const MatrixKind& k, int64_t rows, int64_t cols, uint32_t s) {
      return matrices_.emplace_back(k, rows, cols, s).matrix();
    };
    if (gating == Gating::kGated) expert.gate = keep(kind.gate, width, hidden, own);
    expert.up = keep(kind.up, width, hidden, own + 3);
    expert.down = keep(kind.down, hidden, width, own + 6);
    weights_.experts.push_back(expert);
  }
}

std::vector<Expected> expected_experts(const Tensor& x,
                                       const ExpertWeights& weights,
                                       const Choice& choice,
                                       const Activation& activation) {
  const int64_t rows = x.shape()[0];
  const int64_t hidden = x.shape()[1];
  const bool gated = activation.gating == Gating::kGated;
  std::vector<Expected> out(static_cast<size_t>(rows * hidden));
  for (int64_t t = 0; t < rows; ++t) {
    for (int64_t j = 0; j < choice.top_k(); ++j) {
      const ExpertMatrices& e = weights.experts[static_cast<size_t>(choice.expert(t, j))];
      const auto share = static_cast<double>(choice.weights()[t * choice.top_k() + j]);
      const Tensor row = x.rows(t, 1);
      std::vector<Expected> inner = expected_linear(row, e.up);
      const std::vector<Expected> gates = gated ? expected_linear(row, e.gate) : inner;
      for (size_t f = 0; f < inner.size(); ++f) {
        const Expected z = gates[f];
        const double value = activation_value(activation.function, z.value);
        // The slopes: at most 1.13 for silu and gelu, 2 |z| for relu2.
        const double slope =
            activation.function == ActivationFunction::kRelu2 ? 2 * std::abs(z.value) : 1.13;
        const double size = std::abs(value) + slope * z.magnitude;
        const Expected up = gated ? inner[f] : Expected{1.0, 0.0};
        inner[f] = {value * up.value, std::abs(up.value) * size + std::abs(value) * up.magnitude};
      }
      std::vector<float> down(inner.size());
      for (int64_t h = 0; h < hidden; ++h) {
        dequantize_row(e.down, h, down);
        Expected& sum = out[static_cast<size_t>(t * hidden + h)];
        for (size_t f = 0; f < inner.size(); ++f) {
          const auto weight = static_cast<double>(down[f]);
          sum.value += share * weight * inner[f].value;
          sum.magnitude += std::abs(share * weight) * inner[f].magnitude;
        }
      }
    }
  }
  return out;
}

}  // namespace facet::test
