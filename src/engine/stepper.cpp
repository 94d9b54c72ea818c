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

}  // namespace facet
