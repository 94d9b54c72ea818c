#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "model/gemma4/gemma4_model.h"
#include "verify/report.h"

namespace facet {

/// A model and the backend it is on. The model's limits must allow 2 * VerifyPlan::chunk rows and
/// logit rows.
struct VerifySide {
  gemma4::Gemma4Model& model;
  Backend& backend;
};

/// What both sides are fed: the same ids in two sequences, one from position 0, the other after
/// `context` positions whose keys and values are random and the same on both sides. The second so
/// reaches past the sliding window without the reference having to compute its way there.
struct VerifyPlan {
  std::vector<int32_t> ids;  ///< at least one
  int32_t context = 0;       ///< 0: no second sequence
  int32_t decodes = 2;       ///< the last ids go one by one, as decodes; the first one never
  int32_t chunk = 16;        ///< ids per prefill step and sequence
  int32_t page_size = 64;    ///< positions per page of the KV caches
  DType kv_dtype = DType::kF32;
  double tie = 0;  ///< Tolerance::routing
};

/// Layers that the reference will run: the unit of run_verify's progress.
int64_t reference_layers(const gemma4::Gemma4Config& config, const VerifyPlan& plan);

/// Runs `fast` against `ref`, each part of the model given the reference's input (Teacher), then
/// left to itself. `progress` gets the layers that the reference has run. Memory beyond the models:
/// three caches of `ids`, two of `context` positions, and one step's hidden states.
VerifyReport run_verify(const VerifySide& ref,
                        const VerifySide& fast,
                        const VerifyPlan& plan,
                        const std::function<void(int64_t)>& progress);

}  // namespace facet
