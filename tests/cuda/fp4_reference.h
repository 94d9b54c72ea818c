#pragma once

#include <cstdint>
#include <vector>

#include "kernels/activation.h"
#include "quant/weight_matrix.h"

namespace facet::test {

/// ref::linear_w4a4 of x [tokens, w.cols]: [tokens, w.rows].
std::vector<float> reference_w4a4(const std::vector<float>& x, const WeightMatrix& w);

/// experts() in W4A4 of one row: gate, up, down of expert e are matrices 3 e, 3 e + 1, 3 e + 2.
std::vector<float> reference_experts_w4a4(const std::vector<float>& x,
                                          const std::vector<WeightMatrix>& matrices,
                                          const std::vector<int32_t>& chosen,
                                          const std::vector<float>& weights,
                                          ActivationFunction function);

}  // namespace facet::test
