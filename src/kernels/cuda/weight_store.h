#pragma once

#include <cstdint>
#include <functional>
#include <unordered_map>
#include <vector>

#include "kernels/backend.h"
#include "kernels/cuda/device_memory.h"
#include "kernels/cuda/experts_simple.h"

namespace facet::cuda {

/// What the ops of a model read, in the memory of the GPU: matrices, whose views then point there;
/// vectors and row lists, found by where they stand on the host; tables of experts.
class WeightStore {
 public:
  /// Uploads all bytes of `operands` once, in large pieces, and points the matrices at them. Bytes
  /// that several matrices view are there once. Throws Error{kOutOfMemory} with what is needed and
  /// what is free.
  void load(const ModelOperands& operands);

  /// CHECKs that the span, or one that begins where it does, was loaded; `op` names the asker.
  /// nullptr for an empty one.
  const float* find(std::span<const float> host, const char* op) const;
  /// nullptr if it was not loaded.
  const int32_t* find_rows(std::span<const int32_t> host) const;
  const DeviceExpert* find(const ExpertWeights& experts) const;

 private:
  struct Loaded {
    const std::byte* device = nullptr;
    int64_t bytes = 0;
  };

  void load_vectors(const ModelOperands& operands);
  void load_expert_tables(const ModelOperands& operands);

  std::vector<Buffer> memory_;
  std::unordered_map<const void*, Loaded> vectors_;  // by place on the host
  std::unordered_map<const void*, const DeviceExpert*> experts_;  // by ExpertWeights::experts.data()
};

}  // namespace facet::cuda
