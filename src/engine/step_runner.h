#pragma once

#include <memory>
#include <span>
#include <string>

#include "model/model.h"
#include "tensor/tensor.h"

namespace facet {

/// What a step gave.
struct StepOutcome {
  TensorView logits;  ///< [R, V]; valid until the next launch; empty where `top` is not
  std::span<const TopLogits> top;  ///< [R]: Model::top_logits
  std::span<const int32_t> drawn;  ///< [R], or empty: Model::drawn
  double seconds = 0;              ///< that the step took
  std::string error;               ///< if it failed: what the exception said
};

/// Runs the steps of a model, one at a time, while its caller goes on.
class StepRunner {
 public:
  virtual ~StepRunner() = default;
  /// Begins a step. What it views stays as it is until collect().
  virtual void launch(const Step& step) = 0;
  /// Waits for the step that was launched last.
  virtual StepOutcome collect() = 0;
};

/// Runs steps on a thread of its own.
std::unique_ptr<StepRunner> make_thread_runner(Model& model);

}  // namespace facet
