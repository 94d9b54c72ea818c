#include "tests/cuda/fp4_reference.h"

#include <cmath>

#include "kernels/ref/w4a4.h"

namespace facet::test {
namespace {

float activated(ActivationFunction function, float z) {
  const double x = z;
  if (function == ActivationFunction::kSilu) return static_cast<float>(x / (1.0 + std::exp(-x)));
  const double inner = 0.7978845608028654 * (x + 0.044715 * x * x * x);
  return static_cast<float>(0.5 * x * (1.0 + std::tanh(inner)));
}

}  // namespace

std::vector<float> reference_w4a4(const std::vector<float>& x, const WeightMatrix& w) {
  const int64_t tokens = std::ssize(x) / w.cols;
  std::vector<float> in = x;
  std::vector<float> out(static_cast<size_t>(tokens * w.rows));
  ref::linear_w4a4({out.data(), DType::kF32, {tokens, w.rows}},
                   {in.data(), DType::kF32, {tokens, w.cols}}, w);
  return out;
}

std::vector<float> reference_experts_w4a4(const std::vector<float>& x,
                                          const std::vector<WeightMatrix>& matrices,
                                          const std::vector<int32_t>& chosen,
                                          const std::vector<float>& weights,
                                          ActivationFunction function) {
  std::vector<float> sum(x.size(), 0.0F);
  for (size_t j = 0; j < chosen.size(); ++j) {
    const WeightMatrix* expert = &matrices[static_cast<size_t>(chosen[j]) * 3];
    const std::vector<float> gate = reference_w4a4(x, expert[0]);
    std::vector<float> inner = reference_w4a4(x, expert[1]);
    for (size_t f = 0; f < inner.size(); ++f) inner[f] *= activated(function, gate[f]);
    const std::vector<float> part = reference_w4a4(inner, expert[2]);
    for (size_t h = 0; h < sum.size(); ++h) sum[h] += weights[j] * part[h];
  }
  return sum;
}

}  // namespace facet::test
