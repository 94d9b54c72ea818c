#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

#include "kernels/backend.h"
#include "kernels/cuda/device_memory.h"
#include "kernels/cuda/experts.h"
#include "kernels/cuda/experts_simple.h"
#include "kernels/cuda/fp4_experts.h"
#include "kernels/cuda/upload.h"
#include "kernels/kernel_choice.h"

namespace facet::cuda {

/// The experts of one layer on the GPU, in the form that one of three kernels reads.
struct LoadedExperts {
  Activation activation;                ///< that they were loaded for
  ExpertsLayer layer;                   ///< for experts()
  Fp4Layer fp4;                         ///< for fp4_experts(), if its experts are not null
  const DeviceExpert* plain = nullptr;  ///< for experts_simple(), if both have none
};

/// What the ops of a model read, in the memory of the GPU: matrices, whose views then point there;
/// vectors and row lists, found by where they stand on the host; experts.
class WeightStore {
 public:
  /// Bytes of the GPU's memory that load() takes at most at a time.
  static int64_t bytes_of(const ModelOperands& operands, const GpuSetup& setup);

  /// Uploads all bytes of `operands` once, in large pieces, and points the matrices at them. Bytes
  /// that several matrices view are there once. NVFP4 is repacked into tiles on the GPU: of experts
  /// nothing else stays, of other matrices the stored form stays too. Throws Error{kOutOfMemory}
  /// with what is needed and what is free.
  void load(const ModelOperands& operands, const GpuSetup& setup, cudaStream_t stream);

  /// CHECKs that the span, or one that begins where it does, was loaded; `op` names the asker.
  /// nullptr for an empty one.
  const float* find(std::span<const float> host, const char* op) const;
  /// The same of a row list.
  const int32_t* find_rows(std::span<const int32_t> host, const char* op) const;
  const LoadedExperts& find(const ExpertWeights& experts) const;
  /// A loaded NVFP4 matrix as fp4_linear() reads it; no scales: it does not.
  Fp4Operand find_fp4(const WeightMatrix& matrix) const;
  /// The tiles of a loaded NVFP4 matrix, or nullptr.
  const std::byte* find_tiles(const WeightMatrix& matrix) const;

 private:
  struct Loaded {
    const std::byte* device = nullptr;
    int64_t bytes = 0;
  };
  struct Loading {
    const ModelOperands& operands;
    const GpuSetup& setup;
    cudaStream_t stream = nullptr;
    UploadRing& ring;
    Upload::OnBytes on_bytes;
  };

  void load_matrices(const Loading& loading);
  void load_vectors(const Loading& loading);
  void load_experts(const Loading& loading, ExpertWeights& layer);
  void tile_matrices(const Loading& loading);
  std::vector<Fp4Expert> fp4_experts_of(const Loading& loading, ExpertWeights& layer);
  Fp4Operand fp4_operand(const WeightMatrix& matrix, cudaStream_t stream);
  std::byte* keep(Buffer buffer);

  std::vector<Buffer> memory_;
  std::unordered_map<const void*, Loaded> vectors_;          // by place on the host
  std::unordered_map<const void*, Loaded> row_lists_;        // the same
  std::unordered_map<const void*, LoadedExperts> experts_;   // by ExpertWeights::experts.data()
  std::unordered_map<const void*, const std::byte*> tiles_;  // by WeightMatrix::data
  std::unordered_map<const void*, Fp4Operand> fp4_;          // the same
};

}  // namespace facet::cuda
