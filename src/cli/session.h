#pragma once

#include <cstdint>

#include "cache/kv_cache.h"
#include "cli/loaded_model.h"
#include "engine/stepper.h"

namespace facet::cli {

/// Positions per page of the KV cache (performance-notes 6).
inline constexpr int32_t kPageSize = 64;

/// Whether sequences can go back to where their last prompt's lasting part ended (KvCache::keep).
enum class Rewinding { kNo, kYes };

/// How much room a session has.
struct SessionLimits {
  int32_t max_logit_rows = 1;
  int64_t positions = 0;  ///< of one sequence; 0, or more than the model has: the model's
  int32_t sequences = 1;  ///< at the same time
  Rewinding rewinding = Rewinding::kNo;
  const char* memory_flags = "";  ///< the command's, that make the cache smaller: "--context"
};

/// Pages of one KV group that a sequence of up to `positions` may hold.
int32_t pages_of_sequence(const KvGroupSpec& group,
                          int64_t positions,
                          int32_t step_rows,
                          Rewinding rewinding);

/// A model on a backend, with a cache. Progress and the summary of the load go to stderr.
class Session {
 public:
  Session(const ModelOptions& options, const SessionLimits& limits);

  const gemma4::Gemma4Config& config() const { return loaded_.config(); }
  const Checkpoint& checkpoint() const { return loaded_.checkpoint(); }
  const QuantConfig& quant() const { return loaded_.quant(); }
  Backend& backend() { return loaded_.backend(); }
  Stepper& stepper() { return stepper_; }
  const gemma4::Gemma4Model& model() const { return loaded_.model(); }
  /// Positions one sequence may have.
  int64_t max_positions() const { return positions_; }
  /// As LoadedModel::warm_up, where steps read the files and not copies on a device.
  void warm_up() {
    if (backend().allocator().device == Device::kHost) loaded_.warm_up();
  }
  int32_t max_rows() const { return loaded_.model().max_rows(); }

 private:
  LoadedModel loaded_;
  int64_t positions_;
  KvCache cache_;
  Stepper stepper_;
};

}  // namespace facet::cli
