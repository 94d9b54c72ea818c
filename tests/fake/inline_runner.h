#pragma once

#include <exception>
#include <optional>

#include "engine/step_runner.h"
#include "tests/fake/hash_backend.h"

namespace facet::test {

/// Runs each step when it is collected, on the caller's thread: as late as a device might, so that
/// whatever the engine changes too early under a step shows. Time is that of the fake clock.
class InlineRunner final : public StepRunner {
 public:
  InlineRunner(Model& model, const FakeClock& clock) : model_(model), clock_(clock) {}

  void launch(const Step& step) override { step_.emplace(step); }

  StepOutcome collect() override {
    StepOutcome outcome;
    const auto start = clock_.now();
    try {
      outcome.logits = *model_.forward(*step_);
    } catch (const std::exception& error) {
      outcome.error = error.what();
    }
    outcome.seconds = std::chrono::duration<double>(clock_.now() - start).count();
    step_.reset();
    return outcome;
  }

 private:
  Model& model_;
  const FakeClock& clock_;
  std::optional<Step> step_;
};

}  // namespace facet::test
