#pragma once

#include <cstdint>
#include <span>

#include "engine/step_runner.h"
#include "model/model.h"

namespace facet {

/// The logits of one row of a step: what the device drew and found, and all [V] for who asks, who
/// may overwrite them. Must not outlive the step.
class RowLogits {
 public:
  RowLogits(Model& model, const StepOutcome& outcome, int64_t row)
      : model_(model), outcome_(outcome), row_(row) {}

  /// The token that the device drew; -1: none.
  int32_t drawn() const {
    return outcome_.drawn.empty() ? -1 : outcome_.drawn[static_cast<size_t>(row_)];
  }
  /// Null: all are on the host.
  const TopLogits* top() const {
    return outcome_.top.empty() ? nullptr : &outcome_.top[static_cast<size_t>(row_)];
  }
  std::span<float> all() {
    if (all_.empty()) {
      all_ = top() == nullptr ? outcome_.logits.slice_rows(row_, 1).as<float>()
                              : model_.fetch_logits(row_);
    }
    return all_;
  }

 private:
  Model& model_;
  const StepOutcome& outcome_;
  int64_t row_;
  std::span<float> all_;
};

}  // namespace facet
