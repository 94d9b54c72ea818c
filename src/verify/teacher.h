#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "kernels/backend.h"
#include "model/gemma4/gemma4_model.h"
#include "verify/report.h"

namespace facet {

/// Everything the reference computed in one step of T rows, float32 row-major. L layers.
struct StepRecord {
  struct Routed {
    std::vector<int32_t> experts;      // [T, top_k]
    std::vector<float> weights;        // [T, top_k]
    std::vector<float> probabilities;  // [T, E]
  };

  explicit StepRecord(size_t layers)
      : hidden(layers + 1), after_attention(layers), routing(layers) {}

  std::vector<std::vector<float>> hidden;           // [L+1][T, H]: before a layer; after the norm
  std::vector<std::vector<float>> after_attention;  // [L][T, H]
  std::vector<Routed> routing;                      // [L]; empty in layers without experts
  std::vector<float> after_layers;                  // [T, H]
  std::vector<float> per_layer_inputs;              // [T, L, P]
};

/// Records a step of the reference.
class Recorder final : public StepObserver {
 public:
  /// `each_layer` is called once before each layer. All arguments must outlive the recorder.
  Recorder(const gemma4::Gemma4Model& model,
           Backend& backend,
           StepRecord& record,
           const std::function<void()>& each_layer)
      : model_(model), backend_(backend), record_(record), each_layer_(each_layer) {}

  void hidden(int32_t layer, TensorView x) override;
  void after_attention(int32_t layer, TensorView x) override;
  void after_layers(TensorView x) override;
  void routing(int32_t layer, const Routing& routing) override;
  void per_layer_inputs(TensorView ple) override;

 private:
  std::vector<float> router_probabilities(int32_t layer, TensorView x);

  const gemma4::Gemma4Model& model_;
  Backend& backend_;
  StepRecord& record_;
  const std::function<void()>& each_layer_;
};

/// Holds a step of the fast backend against the record of the same step, part by part, and puts
/// the record's values in place of each part's result: every part starts from the reference's
/// input, so an error neither grows from layer to layer nor hides where it was made.
class Teacher final : public StepObserver {
 public:
  /// `weights`: the reference's. All arguments must outlive the teacher. Merges into `report`,
  /// whose layers are there.
  Teacher(const gemma4::Weights& weights,
          const StepRecord& record,
          std::span<const int32_t> positions,
          double tie,
          VerifyReport& report)
      : weights_(weights), record_(record), positions_(positions), tie_(tie), report_(report) {}

  void hidden(int32_t layer, TensorView x) override;
  void after_attention(int32_t layer, TensorView x) override;
  void after_layers(TensorView x) override;
  void routing(int32_t layer, const Routing& routing) override;
  void per_layer_inputs(TensorView ple) override;

 private:
  Difference against(TensorView found, const std::vector<float>& wanted) const;
  void end_of_layer(int32_t layer, TensorView x);

  const gemma4::Weights& weights_;
  const StepRecord& record_;
  std::span<const int32_t> positions_;
  const double tie_;
  VerifyReport& report_;
};

}  // namespace facet
