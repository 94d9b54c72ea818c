#include "engine/stepper.h"

#include <optional>

namespace facet {

TensorView Stepper::run(std::span<const SequenceStep> sequences, StepObserver* observer) {
  batch_.build(cache_, sequences);
  return forward(sequences, batch_.step(observer));
}

void Stepper::run_top(std::span<const SequenceStep> sequences) {
  batch_.build(cache_, sequences);
  Step step = batch_.step(nullptr);
  step.top_only = true;
  forward(sequences, step);
}

TensorView Stepper::forward(std::span<const SequenceStep> sequences, const Step& step) {
  const std::optional<TensorView> logits = model_.forward(step);
  if (!logits) return {};
  for (size_t s = 0; s < sequences.size(); ++s)
    cache_.advance(sequences[s].slot, batch_.rows()[s].rows);
  return *logits;
}

}  // namespace facet
