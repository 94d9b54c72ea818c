#pragma once

#include <exception>
#include <functional>
#include <optional>
#include <utility>

#include "engine/step_runner.h"
#include "tests/fake/hash_backend.h"

namespace facet::test {

/// Runs each step when it is collected, on the caller's thread: as late as a device might, so that
/// whatever the engine changes too early under a step shows. Time is that of the fake clock.
class InlineRunner final : public StepRunner {
 public:
  InlineRunner(Model& model, const FakeClock& clock) : model_(model), clock_(clock) {}

  void launch(const Step& step) override {
    step_.emplace(step);
    sequences_ = std::ssize(step.batch.sequences);
  }

  /// Called right before each step runs.
  void before_step(std::function<void()> call) { before_step_ = std::move(call); }

  StepOutcome collect() override {
    if (before_step_) before_step_();
    StepOutcome outcome;
    const auto start = clock_.now();
    try {
      outcome.logits = *model_.forward(*step_);
      if (step_->top_only) outcome.top = model_.top_logits();
      if (!step_->draws.empty()) outcome.drawn = model_.drawn();
    } catch (const std::exception& error) {
      outcome.error = error.what();
    }
    outcome.seconds = std::chrono::duration<double>(clock_.now() - start).count();
    step_.reset();
    return outcome;
  }

  /// Of the step that was launched last.
  int64_t sequences() const { return sequences_; }

 private:
  Model& model_;
  const FakeClock& clock_;
  std::optional<Step> step_;
  int64_t sequences_ = 0;
  std::function<void()> before_step_;
};

}  // namespace facet::test
