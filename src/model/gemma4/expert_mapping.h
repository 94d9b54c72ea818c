#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/activation.h"

namespace facet::gemma4 {

/// Which of an expert's matrices, by the field's names: w1 = gate, w2 = down, w3 = up. Gate and up
/// together are w13, split on rows; w2 is split on columns (PLACE-1).
enum class ExpertProjection { kGate, kDown, kUp };

/// One row of the expert-parameter mapping (MAP-1).
struct ExpertParam {
  std::string module;  ///< relative to the layer: "experts.11.gate_proj"
  int32_t expert = 0;
  ExpertProjection projection = ExpertProjection::kGate;
};

/// Every per-expert module of a layer, in the order gate, down, up for each expert; without a gate
/// only down and up. A tensor belongs to a row if its name is the row's module, a dot and a suffix,
/// whatever the suffix: so one table serves weights, scales and whatever a format adds, and expert
/// 1 is not expert 11.
std::vector<ExpertParam> make_expert_params_mapping(int32_t num_experts, Gating gating);

}  // namespace facet::gemma4
