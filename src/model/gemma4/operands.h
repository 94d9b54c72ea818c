#pragma once

#include "kernels/backend.h"
#include "model/gemma4/weights.h"

namespace facet::gemma4 {

/// All that ops read of `weights`, which they point into: matrices, experts, norm weights, scales.
ModelOperands operands_of(Weights& weights);

}  // namespace facet::gemma4
