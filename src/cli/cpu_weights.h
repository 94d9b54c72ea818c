#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "checkpoint/safetensors.h"
#include "cli/options.h"
#include "model/gemma4/weights.h"
#include "tensor/buffer.h"

namespace facet::cli {

/// What --cpu-weights asks for; nullopt: exact; kBF16: exact copies of BF16 matrices. Throws
/// Error{kUsage} if the backend is not cpu, or if --cpu-weights-cache comes alone.
std::optional<WeightFormat> copy_format(const ModelOptions& options);

/// What the copies of --cpu-weights would be.
struct CpuWeightsPlan {
  WeightFormat format = WeightFormat::kNvfp4;
  int64_t matrices = 0;
  int64_t from_bytes = 0;  ///< of the originals
  int64_t bytes = 0;       ///< of the copies, which is more memory
  int64_t exact = 0;       ///< plain matrices that stay as they are: their columns do not fit

  /// "12 matrices of 3.1 GB as NVFP4 in 0.9 GB".
  std::string describe() const;
};

/// nullopt for exact weights. `weights` become what would be read, to be looked at only: the
/// matrices that would be replaced have the format of their copies, and no bytes of it. Throws as
/// copy_format does.
std::optional<CpuWeightsPlan> plan_cpu_weights(gemma4::Weights& weights,
                                               const ModelOptions& options);

/// Copies of a model's plain matrices, which are read faster: in large pages, and with nvfp4 or
/// int8 fewer bytes. Owns their bytes: in
/// memory, made at load or read from --cpu-weights-cache.
class CpuWeights {
 public:
  /// Nothing is replaced.
  CpuWeights() = default;
  /// Replaces what --cpu-weights says in `weights`, which view `checkpoint`; from the cache file if
  /// it is there and sound, else anew, with progress on stderr, and writes the file. One log line
  /// says what it took. Throws Error{kBadCheckpoint} naming a tensor that holds infinity or NaN,
  /// Error{kOutOfMemory}, Error{kIo}.
  CpuWeights(gemma4::Weights& weights, const Checkpoint& checkpoint, const ModelOptions& options);

  /// Whether these bytes of the checkpoint stand, in whole or part, for a matrix that was replaced:
  /// they will not be read again but for single rows.
  bool replaced(std::span<const std::byte> bytes) const;

 private:
  Buffer memory_;
  std::vector<const std::byte*> originals_;  // sorted
};

}  // namespace facet::cli
