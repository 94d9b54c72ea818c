#pragma once

#include <cstdint>
#include <optional>

#include "base/worker_pool.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/kernel_table.h"
#include "quant/weight_matrix.h"

namespace facet::cpu {

/// Makes copies of plain matrices: lossy ones, which take less memory to read, or exact ones, for
/// memory that reads faster. One caller at a time.
class Requantizer {
 public:
  /// Throws as make_cpu_backend does.
  explicit Requantizer(const CpuOptions& options);

  /// What `from` becomes in `format` (kNvfp4, kInt8Group, or kBF16 for an exact copy): everything
  /// but the bytes and global_scale. nullopt where it has to stay: it is not plain (BF16, for a
  /// copy), or its columns are no multiple of 16 as NVFP4 wants them.
  static std::optional<WeightMatrix> plan(const WeightMatrix& from, WeightFormat format);

  /// Fills the codes and scales of `to`, a plan of `from`, whose memory they get. Returns the
  /// global_scale (1 for INT8 and copies); nullopt if a weight is not finite (copies do not look).
  std::optional<float> encode(const WeightMatrix& from,
                              const WeightMatrix& to,
                              std::byte* codes,
                              std::byte* scales);

 private:
  /// The largest magnitude; infinity or NaN if there is one.
  float amax(const WeightMatrix& from);

  const KernelTable kernels_;
  WorkerPool pool_;
};

}  // namespace facet::cpu
