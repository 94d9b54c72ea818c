#pragma once

#include <vector>

#include "model/gemma4/weights.h"

namespace facet::gemma4 {

/// A matrix that may be replaced by a copy, and where else it is viewed.
struct Requantizable {
  WeightMatrix* matrix = nullptr;
  WeightMatrix* twin = nullptr;  ///< v_proj where it is k_proj; or null

  void replace(const WeightMatrix& by) const {
    *matrix = by;
    if (twin != nullptr) *twin = by;
  }
};

/// The matrices that decoding spends its time on, in a fixed order: attention, dense MLPs, experts,
/// head. Left out: the router, whose small errors would choose other experts; embeddings, of which
/// a row is looked up (the head, where tied, is replaced alone); per-layer embeddings.
std::vector<Requantizable> requantizable(Weights& weights);

}  // namespace facet::gemma4
