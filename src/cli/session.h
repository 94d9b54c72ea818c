#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "cache/kv_cache.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/quant_config.h"
#include "cli/cpu_weights.h"
#include "cli/options.h"
#include "engine/stepper.h"
#include "kernels/backend.h"
#include "kernels/cpu/cpu_backend.h"
#include "model/gemma4/gemma4_model.h"

namespace facet::cli {

/// Positions per page of the KV cache (performance-notes 6).
inline constexpr int32_t kPageSize = 64;

/// A checkpoint with its configs parsed and its weights mapped: what `check` does, and where every
/// command with a model begins. Throws as the loaders do.
struct OpenModel {
  explicit OpenModel(const std::string& folder);

  Checkpoint checkpoint;
  gemma4::Gemma4Config config;
  QuantConfig quant;
  Activation activation;
  gemma4::Weights weights;
};

/// What the config's hidden_activation means. Throws Error{kBadCheckpoint} that lists the names.
Activation activation_of(const gemma4::Gemma4Config& config);

/// Whether sequences can go back to where their last prompt's lasting part ended (KvCache::keep).
enum class Rewinding { kNo, kYes };

/// How much room a session has.
struct SessionLimits {
  int32_t max_logit_rows = 1;
  int64_t positions = 0;  ///< of one sequence; 0, or more than the model has: the model's
  int32_t sequences = 1;  ///< at the same time
  Rewinding rewinding = Rewinding::kNo;
};

/// The id that begins every text. Throws Error{kBadCheckpoint} if the model has no row for it.
int32_t bos_id(const gemma4::Gemma4Config& config);

/// Threads and instruction set of the cpu backend. Throws Error{kUsage} for a name that is none.
cpu::CpuOptions cpu_options(const ModelOptions& options);

/// Pages of one KV group that a sequence of up to `positions` may hold.
int32_t pages_of_sequence(const KvGroupSpec& group,
                          int64_t positions,
                          int32_t step_rows,
                          Rewinding rewinding);

std::unique_ptr<Backend> make_backend(const ModelOptions& options);
/// What --kv-dtype means for this checkpoint: auto is FP8 where it is declared, else BF16.
DType kv_dtype(const ModelOptions& options, const QuantConfig& quant);

/// A model on a backend, with a cache. Progress and the summary of the load go to stderr.
class Session {
 public:
  Session(const ModelOptions& options, const SessionLimits& limits);

  const gemma4::Gemma4Config& config() const { return model_.config(); }
  const Checkpoint& checkpoint() const { return checkpoint_; }
  const QuantConfig& quant() const { return quant_; }
  Backend& backend() { return *backend_; }
  Stepper& stepper() { return stepper_; }
  const gemma4::Gemma4Model& model() const { return model_; }
  /// Positions one sequence may have.
  int64_t max_positions() const { return positions_; }
  /// Reads all weights that steps will read once, with progress on stderr, so that the first answer
  /// does not wait for the disk. Does nothing where they would not stay in memory.
  void warm_up();
  int32_t max_rows() const { return model_.max_rows(); }

 private:
  Session(const ModelOptions& options, const SessionLimits& limits, OpenModel open);

  Checkpoint checkpoint_;
  QuantConfig quant_;
  std::unique_ptr<Backend> backend_;
  CpuWeights cpu_weights_;
  gemma4::Gemma4Model model_;
  int64_t positions_;
  KvCache cache_;
  Stepper stepper_;
};

}  // namespace facet::cli
