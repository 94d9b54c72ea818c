#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "checkpoint/quant_config.h"
#include "kernels/activation.h"
#include "model/gemma4/config.h"
#include "model/gemma4/random_values.h"
#include "tensor/dtype.h"
#include "tensor/shape.h"

namespace facet::gemma4 {

/// A tensor of a synthetic checkpoint: how it is stored and what it holds.
struct SynthTensor {
  std::string name;
  DType dtype = DType::kBF16;
  Shape shape;
  int64_t bytes = 0;
  /// What is drawn; for kF32, and for scalars, every element is law.mean. kI64 holds `extents`.
  Law law;
  std::array<int64_t, 2> extents{};
};

struct SynthPlan {
  uint64_t seed = 0;
  std::vector<SynthTensor> tensors;  ///< what stands before the layers first, then layer by layer
  int64_t bytes = 0;                 ///< of all tensors
};

/// Every text tensor of a checkpoint with these configs, named, typed and shaped as its producer
/// would: from the loader's own tables (declare_weights, stored_parts). Experts are fused unless a
/// scheme covers them; ModelOpt files hold no cache scales, compressed-tensors files with an FP8
/// cache do (checkpoint-formats 2.10, 3.3); plain files keep the unused k and v of layers that read
/// another layer's cache (gemma4-architecture 2.8).
///
/// The values make a network that behaves: see synth_scales.h. Reads and writes no file. Throws
/// Error{kBadCheckpoint} naming the module if a scheme does not fit its columns.
SynthPlan plan_synth(const Gemma4Config& config,
                     const QuantConfig& quant,
                     const Activation& activation,
                     uint64_t seed);

}  // namespace facet::gemma4
