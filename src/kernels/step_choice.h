#pragma once

#include <set>
#include <vector>

#include "kernels/kernel_choice.h"
#include "kernels/step_limits.h"

namespace facet {

// Whether a step of few tokens is one launch for all layers (kernels/cuda/few_tokens.h): what is
// known of it from the GPU, the model and what the user asked for. The backend asks the launcher
// itself in every step, since lengths and addresses count too.

/// A model's layers.
struct StepQuery {
  StepWidths widths;
  std::vector<StepKind> kinds;           ///< that occur
  std::set<WeightFormat> matrices = {};  ///< of all matrices but the experts
  std::set<WeightFormat> experts = {};   ///< empty: some layer has none
  Gating gating = Gating::kGated;
  DType kv = DType::kBF16;
  bool own_caches = true;         ///< no layer reads another's
  bool per_layer_inputs = false;  ///< layers have inputs of their own
};

/// What a step runs as, and why. Throws Error{kUsage} where one launch was asked for and cannot be,
/// and as choose_linear().
KernelChoice choose_step(const GpuSetup& setup, const StepQuery& query);

}  // namespace facet
