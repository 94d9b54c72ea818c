#include "model/gemma4/tensor_slots.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fmt/core.h>
#include <optional>
#include <utility>

#include "base/log.h"
#include "quant/float_formats.h"

namespace facet::gemma4 {
namespace {

/// The values of a plain tensor in float32; a fault and nullopt if dtype, shape or a value is
/// wrong.
std::optional<std::vector<float>> read_values(const StoredTensor& tensor,
                                              const Shape& wanted,
                                              FaultReport& faults) {
  const bool scalar_ok = wanted == Shape{1} && tensor.shape == Shape{};
  if (tensor.shape != wanted && !scalar_ok) {
    faults.wrong_shape(tensor.name, to_string(tensor.shape), to_string(wanted));
    return std::nullopt;
  }
  std::vector<float> values(static_cast<size_t>(tensor.shape.elements()));
  const std::byte* data = tensor.bytes.data();
  for (size_t i = 0; i < values.size(); ++i) {
    uint16_t half = 0;
    switch (tensor.dtype) {
      case DType::kF32:
        std::memcpy(&values[i], data + i * sizeof(float), sizeof(float));
        break;
      case DType::kBF16:
        std::memcpy(&half, data + i * sizeof(half), sizeof(half));
        values[i] = bf16_to_float(half);
        break;
      case DType::kF16:
        std::memcpy(&half, data + i * sizeof(half), sizeof(half));
        values[i] = f16_to_float(half);
        break;
      default:
        faults.wrong_dtype(tensor.name, to_string(tensor.dtype), "BF16, F16 or F32");
        return std::nullopt;
    }
    if (!std::isfinite(values[i])) {
      faults.bad(tensor.name, fmt::format("value {} is {}, wanted a finite number", i, values[i]));
      return std::nullopt;
    }
  }
  return values;
}

std::string_view without_suffix(std::string_view name, std::string_view text_name) {
  return name.substr(0, name.size() - text_name.size());
}

}  // namespace

void TensorSlots::add_module(LinearSlot slot) {
  linears_.push_back(std::move(slot));
  modules_.emplace(linears_.back().module, &linears_.back());
}

void TensorSlots::add_linear(std::string module, MatrixShape shape, WeightMatrix& target) {
  add_module({std::move(module), shape, &target, true, nullptr, {}});
}

void TensorSlots::add_plain(std::string module, MatrixShape shape, WeightMatrix& target) {
  add_module({std::move(module), shape, &target, false, nullptr, {}});
}

void TensorSlots::add_expert_linear(std::string module,
                                    MatrixShape shape,
                                    WeightMatrix& target,
                                    ExpertSlots& experts) {
  add_module({std::move(module), shape, &target, true, &experts, {}});
}

TensorSlots::VectorSlot& TensorSlots::new_vector(std::string name) {
  vectors_.push_back({});
  VectorSlot& slot = vectors_.back();
  slot.name = std::move(name);
  slot.shape = Shape{1};
  tensors_.emplace(slot.name, &slot);
  return slot;
}

void TensorSlots::add_vector(std::string tensor, Shape shape, std::vector<float>& target) {
  VectorSlot& slot = new_vector(std::move(tensor));
  slot.shape = shape;
  slot.vector = &target;
}

void TensorSlots::add_scalar(std::string tensor, float& target) {
  new_vector(std::move(tensor)).scalar = &target;
}

void TensorSlots::add_kv_scale(std::vector<std::string> k_names,
                               std::vector<std::string> v_names,
                               float& k_target,
                               float& v_target) {
  KvScaleSlot scales;
  scales.k_target = &k_target;
  scales.v_target = &v_target;
  const auto declare = [this](std::vector<std::string>& names, std::vector<VectorSlot*>& slots) {
    for (std::string& name : names) {
      slots.push_back(&new_vector(std::move(name)));
      slots.back()->required = false;
    }
  };
  declare(k_names, scales.k);
  declare(v_names, scales.v);
  kv_scales_.push_back(std::move(scales));
}

void TensorSlots::add_ignored(std::string prefix, Ignored why) {
  ignored_.emplace_back(std::move(prefix), why);
}

ExpertSlots& TensorSlots::add_experts(std::string name,
                                      ExpertShape shape,
                                      Gating gating,
                                      ExpertWeights& target) {
  experts_.push_back({std::move(name), shape, gating, &target, nullptr, nullptr, 0});
  ExpertSlots& slots = experts_.back();
  // MAP-2: per-expert modules are looked up first, by whole names, so this cannot catch one of
  // them.
  fused_.emplace(slots.name + ".gate_up_proj", &slots.gate_up);
  fused_.emplace(slots.name + ".down_proj", &slots.down);
  return slots;
}

std::vector<DeclaredLinear> TensorSlots::linears() const {
  std::vector<DeclaredLinear> declared;
  declared.reserve(linears_.size());
  for (const LinearSlot& slot : linears_) {
    declared.push_back({slot.module, slot.shape, slot.may_be_quantized, slot.experts});
  }
  return declared;
}

std::vector<DeclaredVector> TensorSlots::vectors() const {
  std::vector<DeclaredVector> declared;
  declared.reserve(vectors_.size());
  for (const VectorSlot& slot : vectors_) {
    declared.push_back({slot.name, slot.shape, slot.required});
  }
  return declared;
}

Assigned TensorSlots::assign(const std::string& name,
                             const StoredTensor& tensor,
                             FaultReport& faults) {
  if (prefix_.empty() && tensor.name.ends_with(name)) prefix_ = without_suffix(tensor.name, name);
  const auto taken = [&](const StoredTensor& other) {
    faults.extra(tensor.name, fmt::format("the same parameter as {}", other.name));
    return Assigned::kFault;
  };
  if (const auto found = tensors_.find(name); found != tensors_.end()) {
    if (found->second->tensor != nullptr) return taken(*found->second->tensor);
    found->second->tensor = &tensor;
    return Assigned::kUsed;
  }
  if (const auto found = fused_.find(name); found != fused_.end()) {
    if (*found->second != nullptr) return taken(**found->second);
    *found->second = &tensor;
    return Assigned::kUsed;
  }
  if (const size_t dot = name.rfind('.'); dot != std::string::npos) {
    if (const auto found = modules_.find(name.substr(0, dot)); found != modules_.end()) {
      LinearSlot& slot = *found->second;
      const std::string suffix = name.substr(dot + 1);
      for (const auto& [other, part] : slot.parts) {
        if (other == suffix) return taken(*part);
      }
      slot.parts.emplace_back(suffix, &tensor);
      if (slot.experts != nullptr) ++slot.experts->per_expert_tensors;
      return Assigned::kUsed;
    }
  }
  for (const auto& [prefix, why] : ignored_) {
    if (name.starts_with(prefix)) {
      return why == Ignored::kSharedKv ? Assigned::kSharedKv : Assigned::kTiedHead;
    }
  }
  faults.extra(tensor.name, "the config describes no such tensor");
  return Assigned::kFault;
}

std::string TensorSlots::full_name(const std::string& name) const {
  return name.starts_with("lm_head") ? name : prefix_ + name;
}

void TensorSlots::fill_linear(LinearSlot& slot,
                              const QuantConfig& quant,
                              FaultReport& faults) const {
  std::string module = full_name(slot.module);
  if (!slot.parts.empty()) {
    // The name as this file spells it, an extra ".moe." level included.
    const auto& [suffix, tensor] = slot.parts.front();
    module = tensor->name.substr(0, tensor->name.size() - suffix.size() - 1);
  }
  if (slot.parts.empty()) {
    faults.missing(module + ".weight",
                   fmt::format("a matrix [{}, {}]", slot.shape.rows, slot.shape.cols));
    return;
  }
  const auto scheme = slot.may_be_quantized ? quant.scheme_of(module) : std::nullopt;
  *slot.target =
      assemble_matrix({module, slot.shape.rows, slot.shape.cols}, slot.parts, scheme, faults);
}

void TensorSlots::fill_experts(ExpertSlots& slots, FaultReport& faults) const {
  const std::string name = full_name(slots.name);
  const int64_t count = slots.shape.count;
  const int64_t width = slots.shape.width;
  const int64_t hidden = slots.shape.hidden;
  const bool fused = slots.gate_up != nullptr || slots.down != nullptr;
  if (fused && slots.per_expert_tensors > 0) {
    faults.bad(name, "holds both fused and per-expert tensors");
    return;
  }
  if (!fused) return;  // the per-expert modules fill themselves
  const bool gated = slots.gating == Gating::kGated;
  const int64_t w13_rows = gated ? 2 * width : width;
  const auto assemble = [&](const char* leaf, const StoredTensor* tensor, int64_t rows,
                            int64_t cols) {
    const Shape wanted{count, rows, cols};
    if (tensor == nullptr) {
      faults.missing(name + "." + leaf, to_string(wanted));
      return WeightMatrix{};
    }
    if (tensor->shape != wanted) {
      faults.wrong_shape(tensor->name, to_string(tensor->shape), to_string(wanted));
      return WeightMatrix{};
    }
    // All experts as one tall matrix: the same checks as for any plain Linear.
    StoredTensor tall = *tensor;
    tall.shape = Shape{count * rows, cols};
    return assemble_matrix({tensor->name, count * rows, cols}, {{"weight", &tall}}, std::nullopt,
                           faults);
  };
  const WeightMatrix w13 = assemble("gate_up_proj", slots.gate_up, w13_rows, hidden);
  const WeightMatrix w2 = assemble("down_proj", slots.down, hidden, width);
  if (w13.empty() || w2.empty()) return;
  for (int64_t e = 0; e < count; ++e) {
    ExpertMatrices& expert = slots.target->experts[static_cast<size_t>(e)];
    const int64_t first = e * w13_rows;
    if (gated) expert.gate = slice_rows(w13, first, width);
    expert.up = slice_rows(w13, first + w13_rows - width, width);
    expert.down = slice_rows(w2, e * hidden, hidden);
  }
}

void TensorSlots::fill_kv_scales(FaultReport& faults) {
  const auto read = [&](const std::vector<VectorSlot*>& slots) -> std::optional<float> {
    std::optional<float> scale;
    for (const VectorSlot* slot : slots) {
      if (slot->tensor == nullptr) continue;
      const auto values = read_values(*slot->tensor, Shape{1}, faults);
      if (!values) continue;
      if (values->front() <= 0.0F) {
        faults.bad(slot->tensor->name, fmt::format("scale is {}, wanted > 0", values->front()));
      }
      scale = values->front();
    }
    return scale;
  };
  for (const KvScaleSlot& slot : kv_scales_) {
    const std::optional<float> k = read(slot.k);
    const std::optional<float> v = read(slot.v);
    if (!k && !v) continue;
    ++kv_scales_found_;
    *slot.k_target = k ? *k : *v;
    *slot.v_target = v ? *v : *k;
    if (!k || !v) {
      const std::string& missing = (k ? slot.v : slot.k).front()->name;
      log_warning("load", "{} is missing: its partner's scale serves for both", full_name(missing));
    }
  }
}

void TensorSlots::fill(const QuantConfig& quant, FaultReport& faults) {
  for (VectorSlot& slot : vectors_) {
    if (!slot.required) continue;
    if (slot.tensor == nullptr) {
      faults.missing(full_name(slot.name), to_string(slot.shape));
      continue;
    }
    auto values = read_values(*slot.tensor, slot.shape, faults);
    if (!values) continue;
    if (slot.scalar != nullptr) {
      *slot.scalar = values->front();
    } else {
      *slot.vector = std::move(*values);
    }
  }
  fill_kv_scales(faults);
  for (ExpertSlots& slots : experts_) {
    if (slots.gate_up == nullptr && slots.down == nullptr && slots.per_expert_tensors == 0) {
      faults.missing(full_name(slots.name),
                     fmt::format("gate_up_proj and down_proj, or {} experts", slots.shape.count));
    }
    fill_experts(slots, faults);
  }
  for (LinearSlot& slot : linears_) {
    // A layer whose experts are fused, or all missing, has been dealt with as a whole.
    if (slot.experts != nullptr && slot.experts->per_expert_tensors == 0) continue;
    fill_linear(slot, quant, faults);
  }
}

}  // namespace facet::gemma4
