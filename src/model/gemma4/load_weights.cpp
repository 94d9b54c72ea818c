#include <optional>

#include "base/log.h"
#include "checkpoint/fault_report.h"
#include "model/gemma4/names.h"
#include "model/gemma4/tensor_slots.h"
#include "model/gemma4/weights.h"

namespace facet::gemma4 {
namespace {

/// Gives every stored tensor to its slot; what has none is a fault.
void assign_tensors(const Checkpoint& checkpoint,
                    TensorSlots& slots,
                    Weights& weights,
                    FaultReport& faults) {
  for (const StoredTensor* tensor : checkpoint.tensors()) {
    const std::optional<TensorName> name = parse_tensor_name(tensor->name);
    if (!name) {
      faults.extra(tensor->name, "Gemma 4 has no part of this name");
    } else if (name->other_part == "vision") {
      ++weights.skipped_vision_tensors;
    } else if (name->other_part == "audio") {
      ++weights.skipped_audio_tensors;
    } else {
      switch (slots.assign(name->text, *tensor, faults)) {
        case Assigned::kUsed:
          ++weights.text_tensors;
          weights.text_bytes += static_cast<int64_t>(tensor->bytes.size());
          break;
        case Assigned::kSharedKv:
          ++weights.ignored_shared_kv_tensors;
          break;
        case Assigned::kTiedHead:
        case Assigned::kFault:
          break;
      }
    }
  }
}

void log_summary(const Weights& weights) {
  if (weights.skipped_vision_tensors + weights.skipped_audio_tensors > 0) {
    log_info("load", "skipped for text: vision={} audio={} tensors", weights.skipped_vision_tensors,
             weights.skipped_audio_tensors);
  }
  if (weights.ignored_shared_kv_tensors > 0) {
    log_info("load", "ignored {} k/v tensors of layers that read another layer's cache",
             weights.ignored_shared_kv_tensors);
  }
}

}  // namespace

Weights load_weights(const Checkpoint& checkpoint,
                     const Gemma4Config& config,
                     const QuantConfig& quant,
                     const Activation& activation) {
  Weights weights;
  FaultReport faults;
  TensorSlots slots = declare_weights(config, activation, weights);
  assign_tensors(checkpoint, slots, weights, faults);
  slots.fill(quant, faults);
  faults.throw_if_any();
  if (config.tie_word_embeddings) weights.lm_head = weights.embed_tokens;
  for (size_t i = 0; i < config.layers.size(); ++i) {
    // MAP-5: K and V come from one projection, scales included.
    AttentionWeights& attention = weights.layers[i].self_attn;
    if (config.layers[i].k_eq_v) attention.v_proj = attention.k_proj;
  }
  weights.layers_with_kv_scales = slots.kv_scales_found();
  if (quant.kv_fp8() && weights.layers_with_kv_scales == 0) {
    log_info("load", "FP8 KV cache is declared without scales: k_scale=1 v_scale=1");
  }
  log_summary(weights);
  return weights;
}

}  // namespace facet::gemma4
