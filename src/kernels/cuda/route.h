#pragma once

#include <cstdint>

#include "kernels/cuda/device.h"
#include "kernels/gpu_limits.h"
#include "quant/weight_matrix.h"

namespace facet::cuda {

struct RouteArgs {
  int32_t* experts = nullptr;               // [rows, top_k]
  float* weights = nullptr;                 // [rows, top_k]
  float* logits = nullptr;                  // [rows, proj.rows]: workspace
  const float* x = nullptr;                 // [rows, proj.cols]
  WeightMatrix proj;                        // [E, H]
  const float* scale = nullptr;             // [H]
  const float* per_expert_scale = nullptr;  // [E]
  int64_t rows = 0;
  int64_t top_k = 0;
  float eps = 0;
};

/// Whether rows of the router are read in pieces of eight columns: their sums then have another
/// order.
bool routes_in_eights(const WeightMatrix& proj);

/// Backend::route in float32, x not rounded. Experts are ordered by their logits, which order
/// probabilities too; only those of the chosen are computed. Up to kMostExperts, of which a row
/// chooses up to kMostChosen.
void route(cudaStream_t stream, const RouteArgs& args);
/// Its two halves: the logits, and the choice from them.
void route_logits(cudaStream_t stream, const RouteArgs& args);
void route_choice(cudaStream_t stream, const RouteArgs& args);

}  // namespace facet::cuda
