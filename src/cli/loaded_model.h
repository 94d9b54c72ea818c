#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "checkpoint/quant_config.h"
#include "cli/cpu_weights.h"
#include "cli/kernel_lines.h"
#include "cli/load_phases.h"
#include "cli/options.h"
#include "kernels/backend.h"
#include "kernels/cpu/cpu_backend.h"
#include "model/gemma4/gemma4_model.h"

namespace facet::cli {

/// A checkpoint with its configs parsed and its weights mapped: what `check` does, and where every
/// command with a model begins. Throws as the loaders do.
struct OpenModel {
  explicit OpenModel(const std::string& folder);

  LoadPhases::Clock::time_point begun = LoadPhases::Clock::now();
  Checkpoint checkpoint;
  gemma4::Gemma4Config config;
  QuantConfig quant;
  Activation activation;
  gemma4::Weights weights;
};

/// What the config's hidden_activation means. Throws Error{kBadCheckpoint} that lists the names.
Activation activation_of(const gemma4::Gemma4Config& config);

/// The id that begins every text. Throws Error{kBadCheckpoint} if the model has no row for it.
int32_t bos_id(const gemma4::Gemma4Config& config);

/// Threads and instruction set of the cpu backend. Throws Error{kUsage} for a name that is none.
cpu::CpuOptions cpu_options(const ModelOptions& options);

/// Whether the options mean the GPU: by name, or by auto where there is one that can be used.
bool computes_on_cuda(const ModelOptions& options);
/// Throws Error{kUsage} for a choice of GPU kernels where no GPU computes, Error{kDevice} with what
/// is wrong with a GPU that was asked for.
std::unique_ptr<Backend> make_backend(const ModelOptions& options);
/// The GPU that computes, and what was asked of it. CHECKs that one does (computes_on_cuda).
GpuSetup gpu_setup(const ModelOptions& options);
/// What --kv-dtype means for this checkpoint: auto is FP8 where it is declared, else BF16.
DType kv_dtype(const ModelOptions& options, const QuantConfig& quant);

/// A checksum of the bytes of each tensor, in the order of Checkpoint::tensors(); none of those
/// that were not read.
using TensorSums = std::vector<std::optional<uint64_t>>;

/// A model on a backend, without a cache.
class LoadedModel {
 public:
  /// What keys and values will take of a GPU's memory, so that a start that cannot be is refused
  /// before the load.
  struct CacheWish {
    /// Of a model, in a precision; none: nothing is known of it.
    std::function<int64_t(const gemma4::Gemma4Model&, DType)> bytes;
    std::string flags;  ///< that make it smaller
  };

  /// `max_logit_rows` of one step. Progress of copies goes to stderr. On a GPU the log says which
  /// kernels run and why. Throws Error{kUsage} for kernels that cannot be had and
  /// Error{kOutOfMemory} where weights, activations and cache do not fit, both before the load.
  LoadedModel(const ModelOptions& options, int32_t max_logit_rows, const CacheWish& cache = {});

  const gemma4::Gemma4Config& config() const { return model_.config(); }
  const Checkpoint& checkpoint() const { return checkpoint_; }
  const QuantConfig& quant() const { return quant_; }
  /// What runs its ops; for benchmarks, whose figures mean little without.
  const std::vector<KernelLine>& kernels() const { return kernels_; }
  Backend& backend() { return *backend_; }
  gemma4::Gemma4Model& model() { return model_; }
  const gemma4::Gemma4Model& model() const { return model_; }

  /// Called with bytes read and bytes in all.
  using OnRead = std::function<void(int64_t done, int64_t total)>;
  /// Reads all weights that steps will read once, on all threads, with progress on stderr, so that
  /// the first answer does not wait for the disk. Returns their checksums; of tensors that were
  /// replaced, and of all where they would not stay in memory, it reads nothing.
  TensorSums warm_up(const OnRead& on_read = {});
  /// What the load took so far; the caller may add what follows.
  LoadPhases& phases() { return phases_; }
  /// Bytes of all tensors in the files.
  int64_t stored_bytes() const;

 private:
  LoadedModel(const ModelOptions& options,
              int32_t max_logit_rows,
              const CacheWish& cache,
              OpenModel open);
  std::unique_ptr<Backend> backend_for(OpenModel& open,
                                       const ModelOptions& options,
                                       int32_t max_logit_rows,
                                       const CacheWish& cache);

  LoadPhases phases_;
  Checkpoint checkpoint_;
  QuantConfig quant_;
  int32_t threads_;
  std::unique_ptr<Backend> backend_;
  CpuWeights cpu_weights_;
  std::vector<KernelLine> kernels_;
  gemma4::Gemma4Model model_;
};

}  // namespace facet::cli
