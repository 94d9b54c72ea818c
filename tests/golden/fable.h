#pragma once

#include <cstdint>
#include <memory>
#include <random>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "kernels/backend.h"
#include "model/gemma4/gemma4_model.h"

namespace facet::test {

/// The bundled model on the CPU backend, or another, for the tests of the engine.
struct Fable {
  /// `threads`: 0 for one per core.
  Fable(gemma4::StepLimits limits, int32_t threads);
  Fable(gemma4::StepLimits limits, std::unique_ptr<Backend> on);

  Checkpoint checkpoint;
  std::unique_ptr<Backend> backend;
  gemma4::Gemma4Model model;
};

/// Ids that stand for text, from a seed.
std::vector<int32_t> fable_ids(uint64_t seed, int32_t count);

}  // namespace facet::test
