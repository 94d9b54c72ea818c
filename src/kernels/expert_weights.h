#pragma once

#include <cstdint>
#include <vector>

#include "quant/weight_matrix.h"

namespace facet {

/// The three matrices of one expert. Gate and up each keep their own scales (PLACE-5): nothing may
/// assume that they are equal. `gate` is empty in an expert without a gate.
struct ExpertMatrices {
  WeightMatrix gate;  // [F, H]
  WeightMatrix up;    // [F, H]
  WeightMatrix down;  // [H, F]
};

/// The routed experts of one layer as one unit, however the checkpoint stored them. F need not be a
/// multiple of any tile.
struct ExpertWeights {
  std::vector<ExpertMatrices> experts;  // [E]

  int32_t count() const { return static_cast<int32_t>(experts.size()); }
  bool empty() const { return experts.empty(); }
};

}  // namespace facet
