#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "checkpoint/assemble.h"
#include "checkpoint/fault_report.h"
#include "checkpoint/quant_config.h"
#include "checkpoint/safetensors.h"
#include "kernels/activation.h"
#include "kernels/expert_weights.h"
#include "model/gemma4/weights.h"
#include "quant/weight_matrix.h"
#include "tensor/shape.h"

namespace facet::gemma4 {

/// What became of a tensor.
enum class Assigned { kUsed, kSharedKv, kTiedHead, kFault };
/// Why a tensor that is allowed to be there is not used.
enum class Ignored { kSharedKv, kTiedHead };

struct MatrixShape {
  int64_t rows = 0;
  int64_t cols = 0;
};

struct ExpertShape {
  int64_t count = 0;   // E
  int64_t width = 0;   // F
  int64_t hidden = 0;  // H
};

/// The experts of one layer, of which the checkpoint holds one fused pair or all per-expert
/// modules.
struct ExpertSlots {
  std::string name;  // "layers.3.experts"
  ExpertShape shape;
  Gating gating = Gating::kGated;
  ExpertWeights* target = nullptr;
  const StoredTensor* gate_up = nullptr;  // [E, 2F, H], rows 0…F-1 gate; without a gate [E, F, H]
  const StoredTensor* down = nullptr;     // [E, H, F]
  int64_t per_expert_tensors = 0;
};

/// A slot as it was declared, for whoever writes a checkpoint. Names are relative to the text
/// model; they live as long as the table.
struct DeclaredLinear {
  std::string_view module;
  MatrixShape shape;
  bool may_be_quantized = true;
  const ExpertSlots* experts = nullptr;  // set for a per-expert module
};
struct DeclaredVector {
  std::string_view name;
  Shape shape;  // [1] for a scalar
  bool required = true;
};

/// The table of a load: which names may come, what shape each must have, and where each goes. Names
/// are relative to the text model (names.h). Declared first, then every stored tensor is assigned
/// by hash look-up, then fill() builds and checks everything. Targets must outlive the table.
class TensorSlots {
 public:
  /// A Linear `module`: tensors "module.SUFFIX" in any of the dialects of assemble_matrix.
  void add_linear(std::string module, MatrixShape shape, WeightMatrix& target);
  /// As add_linear, never quantised whatever the config says (embeddings, EXC-5).
  void add_plain(std::string module, MatrixShape shape, WeightMatrix& target);
  /// A tensor of plain values, stored as BF16, F16 or F32.
  void add_vector(std::string tensor, Shape shape, std::vector<float>& target);
  /// A tensor of one value, [1] or [].
  void add_scalar(std::string tensor, float& target);
  /// Optional FP8 cache scales, each under one of several names. If the checkpoint holds one of the
  /// two, it serves for both.
  void add_kv_scale(std::vector<std::string> k_names,
                    std::vector<std::string> v_names,
                    float& k_target,
                    float& v_target);
  /// Tensors whose name begins so are allowed and not used.
  void add_ignored(std::string prefix, Ignored why);
  /// The experts of one layer; the reference stays valid as long as the table.
  ExpertSlots& add_experts(std::string name,
                           ExpertShape shape,
                           Gating gating,
                           ExpertWeights& target);
  void add_expert_linear(std::string module,
                         MatrixShape shape,
                         WeightMatrix& target,
                         ExpertSlots& experts);

  std::vector<DeclaredLinear> linears() const;
  /// Vectors, scalars and the optional cache scales.
  std::vector<DeclaredVector> vectors() const;
  const std::deque<ExpertSlots>& experts() const { return experts_; }

  /// Gives `tensor` to the slot of `name`; a name without a slot, or one that is taken, is a fault.
  Assigned assign(const std::string& name, const StoredTensor& tensor, FaultReport& faults);
  /// Builds all targets and reports what is missing or wrong.
  void fill(const QuantConfig& quant, FaultReport& faults);
  /// Layers for which a cache scale was found.
  int32_t kv_scales_found() const { return kv_scales_found_; }

 private:
  struct LinearSlot {
    std::string module;
    MatrixShape shape;
    WeightMatrix* target = nullptr;
    bool may_be_quantized = true;
    ExpertSlots* experts = nullptr;  // set for a per-expert module
    WeightParts parts;
  };
  struct VectorSlot {
    std::string name;
    Shape shape;
    std::vector<float>* vector = nullptr;
    float* scalar = nullptr;  // instead of `vector`
    bool required = true;
    const StoredTensor* tensor = nullptr;
  };
  struct KvScaleSlot {
    std::vector<VectorSlot*> k;
    std::vector<VectorSlot*> v;
    float* k_target = nullptr;
    float* v_target = nullptr;
  };

  VectorSlot& new_vector(std::string name);
  void add_module(LinearSlot slot);
  void fill_linear(LinearSlot& slot, const QuantConfig& quant, FaultReport& faults) const;
  void fill_experts(ExpertSlots& slots, FaultReport& faults) const;
  void fill_kv_scales(FaultReport& faults);
  std::string full_name(const std::string& name) const;

  // Deques: elements never move, so the maps may point at them.
  std::deque<LinearSlot> linears_;
  std::deque<VectorSlot> vectors_;
  std::deque<ExpertSlots> experts_;
  std::vector<KvScaleSlot> kv_scales_;
  std::vector<std::pair<std::string, Ignored>> ignored_;
  std::unordered_map<std::string, LinearSlot*> modules_;         // by module
  std::unordered_map<std::string, VectorSlot*> tensors_;         // by whole name
  std::unordered_map<std::string, const StoredTensor**> fused_;  // by whole name
  std::string
      prefix_;  // what this checkpoint writes before text names, for messages about missing ones
  int32_t kv_scales_found_ = 0;
};

/// The table of a checkpoint of `config`: every tensor that its text model has, in every form in
/// which it may be stored. Sizes `weights`, whose members the slots fill.
TensorSlots declare_weights(const Gemma4Config& config,
                            const Activation& activation,
                            Weights& weights);

}  // namespace facet::gemma4
