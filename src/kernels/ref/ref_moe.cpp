#include <algorithm>
#include <cmath>
#include <vector>

#include "base/check.h"
#include "kernels/ref/operand.h"
#include "kernels/ref/ref_backend.h"

namespace facet::ref {
namespace {

/// A matrix of the op's own.
class Scratch {
 public:
  Scratch(int64_t rows, int64_t cols)
      : shape_({rows, cols}), values_(static_cast<size_t>(rows * cols)) {}
  TensorView view() { return {values_.data(), DType::kF32, shape_}; }
  float* row(int64_t index) { return values_.data() + index * shape_[1]; }

 private:
  Shape shape_;
  std::vector<float> values_;
};

std::vector<float> softmax(const float* logits, int64_t count) {
  const double largest = static_cast<double>(*std::max_element(logits, logits + count));
  std::vector<float> result(static_cast<size_t>(count));
  double total = 0;
  for (int64_t i = 0; i < count; ++i) total += std::exp(static_cast<double>(logits[i]) - largest);
  for (int64_t i = 0; i < count; ++i) {
    result[static_cast<size_t>(i)] =
        static_cast<float>(std::exp(static_cast<double>(logits[i]) - largest) / total);
  }
  return result;
}

/// The index of the largest value that is not yet taken; of equal ones the lowest. With NaN among
/// the values it is still one that is not taken.
size_t largest_free(const std::vector<float>& values, const std::vector<bool>& taken) {
  size_t best = values.size();
  for (size_t i = 0; i < values.size(); ++i) {
    if (!taken[i] && (best == values.size() || values[i] > values[best])) best = i;
  }
  return best;
}

/// The choice of one row.
void choose(int32_t* experts,
            float* weights,
            int64_t top_k,
            const std::vector<float>& probabilities,
            std::span<const float> per_expert_scale) {
  std::vector<bool> taken(probabilities.size(), false);
  double total = 0;
  for (int64_t j = 0; j < top_k; ++j) {
    const size_t e = largest_free(probabilities, taken);
    taken[e] = true;
    experts[j] = static_cast<int32_t>(e);
    weights[j] = probabilities[e];
    total += static_cast<double>(probabilities[e]);
  }
  for (int64_t j = 0; j < top_k; ++j) {
    const auto share = static_cast<float>(static_cast<double>(weights[j]) / total);
    weights[j] = share * per_expert_scale[static_cast<size_t>(experts[j])];
  }
}

/// down · act(gate · x, up · x).  out, x: [N, H].
void run_expert(Backend& backend,
                Scratch& out,
                Scratch& x,
                const ExpertMatrices& expert,
                const Activation& activation) {
  const bool gated = activation.gating == Gating::kGated;
  CHECK(gated != expert.gate.empty(), "{} in an expert {} gate", to_string(activation),
        gated ? "without" : "with");
  const int64_t rows = x.view().rows();
  Scratch up(rows, expert.up.rows);
  Scratch gate(gated ? rows : 0, expert.up.rows);
  backend.linear(up.view(), x.view(), expert.up);
  if (gated) backend.linear(gate.view(), x.view(), expert.gate);
  backend.activate(up.view(), gated ? gate.view() : TensorView(), up.view(), activation);
  backend.linear(out.view(), up.view(), expert.down);
}

}  // namespace

void RefBackend::route(const Routing& routing,
                       TensorView x,
                       const RouterWeightsView& router,
                       float eps) {
  const int64_t rows = x.rows();
  const int64_t width = router.proj.cols;
  const int64_t count = router.proj.rows;
  const int64_t top_k = routing.weights.shape()[1];
  CHECK(top_k > 0 && top_k <= count, "top {} of {} experts", top_k, count);
  CHECK(static_cast<int64_t>(router.scale.size()) == width &&
            static_cast<int64_t>(router.per_expert_scale.size()) == count,
        "{} scales and {} per-expert scales for [{}, {}]", router.scale.size(),
        router.per_expert_scale.size(), count, width);
  CHECK(routing.experts.shape() == routing.weights.shape(), "experts {}, weights {}",
        to_string(routing.experts.shape()), to_string(routing.weights.shape()));
  float* weights = values(routing.weights, {rows, top_k}, "weights");
  int32_t* experts = routing.experts.as<int32_t>().data();

  Scratch z(rows, width);
  rms_norm(z.view(), x, {}, eps);
  const auto root = static_cast<float>(std::pow(static_cast<double>(width), -0.5));
  for (int64_t t = 0; t < rows; ++t) {
    for (int64_t i = 0; i < width; ++i) {
      z.row(t)[i] = z.row(t)[i] * router.scale[static_cast<size_t>(i)] * root;
    }
  }
  Scratch logits(rows, count);
  linear(logits.view(), z.view(), router.proj);
  for (int64_t t = 0; t < rows; ++t) {
    const std::vector<float> probabilities = softmax(logits.row(t), count);
    choose(experts + t * top_k, weights + t * top_k, top_k, probabilities, router.per_expert_scale);
  }
}

void RefBackend::experts(TensorView out,
                         TensorView x,
                         const ExpertWeights& weights,
                         const Routing& routing,
                         const Activation& activation) {
  CHECK(x.shape().rank() == 2, "x is {}, not [T, H]", to_string(x.shape()));
  const int64_t rows = x.rows();
  const int64_t width = x.shape()[1];
  const int64_t top_k = routing.weights.shape()[1];
  CHECK(routing.experts.shape() == routing.weights.shape(), "experts {}, weights {}",
        to_string(routing.experts.shape()), to_string(routing.weights.shape()));
  const std::span<const int32_t> chosen = routing.experts.as<int32_t>();
  const float* share = values(routing.weights, {rows, top_k}, "weights");
  const float* from = values(x, {rows, width}, "x");
  float* to = values(out, {rows, width}, "out");
  for (const int32_t e : chosen) {
    CHECK(e >= 0 && e < weights.count(), "expert {} of {}", e, weights.count());
  }

  // What expert routing.experts[t, j] makes of x[t] stands in row t * top_k + j.
  Scratch parts(rows * top_k, width);
  for (int32_t e = 0; e < weights.count(); ++e) {
    std::vector<int64_t> choices;
    for (int64_t c = 0; c < rows * top_k; ++c) {
      if (chosen[static_cast<size_t>(c)] == e) choices.push_back(c);
    }
    if (choices.empty()) continue;
    const auto count = static_cast<int64_t>(choices.size());
    Scratch in(count, width);
    Scratch result(count, width);
    for (int64_t i = 0; i < count; ++i) {
      const int64_t t = choices[static_cast<size_t>(i)] / top_k;
      std::copy_n(from + t * width, width, in.row(i));
    }
    run_expert(*this, result, in, weights.experts[static_cast<size_t>(e)], activation);
    for (int64_t i = 0; i < count; ++i) {
      std::copy_n(result.row(i), width, parts.row(choices[static_cast<size_t>(i)]));
    }
  }

  for (int64_t t = 0; t < rows; ++t) {
    for (int64_t i = 0; i < width; ++i) {
      double sum = 0;
      for (int64_t j = 0; j < top_k; ++j) {
        const int64_t c = t * top_k + j;
        sum += static_cast<double>(share[c]) * static_cast<double>(parts.row(c)[i]);
      }
      to[t * width + i] = static_cast<float>(sum);
    }
  }
}

}  // namespace facet::ref
