#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "model/gemma4/config.h"
#include "model/gemma4/weights.h"
#include "model/model.h"

namespace facet::gemma4 {

/// The least that a step has to move and compute, whoever runs it.
struct StepCost {
  int64_t weight_bytes = 0;  ///< matrices as stored, each once; of experts those that were chosen
  int64_t kv_bytes = 0;      ///< K and V of every position a row sees, once for each layer
  double flops = 0;          ///< of matrix products and attention, two for each multiply-add

  int64_t bytes() const { return weight_bytes + kv_bytes; }
};

/// One sequence's part of a step: `rows` new tokens behind `context` positions in the cache.
struct SequenceShape {
  int64_t rows = 1;
  int64_t context = 0;
};

/// Remembers which experts the rows of a step chose. Reads routing on the host.
class ExpertCounter final : public StepObserver {
 public:
  explicit ExpertCounter(const Gemma4Config& config);
  /// Forgets: to be called before each step.
  void clear();

  void hidden(int32_t /*layer*/, TensorView /*x*/) override {}
  void routing(int32_t layer, const Routing& routing) override;
  void per_layer_inputs(TensorView /*ple*/) override {}

  /// Distinct experts that a layer's rows chose, the mean over layers with experts; 0 without.
  double chosen_per_layer() const;
  /// Whether a row of the step chose this expert.
  bool chosen(size_t layer, size_t expert) const { return chosen_[layer][expert]; }

 private:
  std::vector<std::vector<bool>> chosen_;  // by layer and expert
};

/// The cost of a step over `sequences` with logits for `logit_rows` rows, given the experts it
/// chose and the cache's dtype. Norms, scales and activations are left out: a thousandth of the
/// rest.
StepCost step_cost(const Gemma4Config& config,
                   const Weights& weights,
                   DType kv_dtype,
                   std::span<const SequenceShape> sequences,
                   int64_t logit_rows,
                   const ExpertCounter& experts);

}  // namespace facet::gemma4
