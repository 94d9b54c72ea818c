#pragma once

#include <cstdint>
#include <span>

#include "cache/kv_cache.h"
#include "engine/step_batch.h"
#include "model/model.h"

namespace facet {

/// Carries out steps: lays the sequences' tokens out as one batch, makes room in the cache, runs
/// the model. Decides nothing. One thread.
class Stepper {
 public:
  Stepper(Model& model, KvCache& cache) : model_(model), cache_(cache) {}

  /// One step over distinct sequences. Returns the logits [R, V] of the asked rows, sequence after
  /// sequence; they are valid until the next call. The cache must have room (KvCache::reserve has
  /// said yes for each sequence and its number of ids); the rows and logit rows must not exceed the
  /// model's limits. An empty view if the observer gave the step up; then each sequence stands
  /// where it stood.
  TensorView run(std::span<const SequenceStep> sequences, StepObserver* observer = nullptr);
  /// The same for Step::top_only: logits stay where the model finds their largest.
  void run_top(std::span<const SequenceStep> sequences);

  KvCache& cache() { return cache_; }
  const Model& model() const { return model_; }

 private:
  /// Runs `step`, which batch_ laid out, and moves the sequences on.
  TensorView forward(std::span<const SequenceStep> sequences, const Step& step);

  Model& model_;
  KvCache& cache_;
  StepBatch batch_;
};

}  // namespace facet
