#include "engine/stepper.h"

#include <optional>

namespace facet {

TensorView Stepper::run(std::span<const SequenceStep> sequences, StepObserver* observer) {
  batch_.build(cache_, sequences);
  const std::optional<TensorView> logits = model_.forward(batch_.step(observer));
  if (!logits) return {};
  for (size_t s = 0; s < sequences.size(); ++s)
    cache_.advance(sequences[s].slot, batch_.rows()[s].rows);
  return *logits;
}

void Stepper::run_top(std::span<const SequenceStep> sequences) {
  batch_.build(cache_, sequences);
  Step step = batch_.step(nullptr);
  step.top_only = true;
  model_.forward(step);
  for (size_t s = 0; s < sequences.size(); ++s)
    cache_.advance(sequences[s].slot, batch_.rows()[s].rows);
}

}  // namespace facet
