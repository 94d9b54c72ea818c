#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "kernels/backend.h"
#include "kernels/cuda/attention.h"
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/linear.h"
#include "kernels/cuda/step_arena.h"
#include "kernels/cuda/step_graphs.h"
#include "kernels/cuda/weight_store.h"

namespace facet::cuda {

/// Device memory for an op's intermediate results, kept at the largest size that was asked for.
class Workspace {
 public:
  /// At least `bytes`. True in `moved` if it was made anew.
  std::byte* take(int64_t bytes, bool& moved);

 private:
  Buffer memory_;
};

/// See make_cuda_backend().
class CudaBackend final : public Backend {
 public:
  explicit CudaBackend(const CudaOptions& options);
  ~CudaBackend() override;

  std::string_view describe() const override { return description_; }
  const Buffer::Allocator& allocator() const override { return device_allocator(); }
  std::optional<DevicePeaks> measure_peaks() override;
  KernelChoice linear_kernel(const WeightMatrix& matrix) const override;
  KernelChoice experts_kernel(const ExpertWeights& experts,
                              const Activation& activation) const override;
  KernelChoice attention_kernel(const AttentionShape& shape) const override;

  int64_t load_bytes(const ModelOperands& operands) const override;
  void load(const ModelOperands& operands) override;
  bool begin_step(const StepInputs& inputs) override;
  TensorView end_step(TensorView result) override;

  void embed(TensorView out,
             const WeightMatrix& table,
             std::span<const int32_t> ids,
             float scale) override;
  void rms_norm(TensorView out, TensorView x, std::span<const float> weight, float eps) override;
  void linear(TensorView out, TensorView x, const WeightMatrix& w) override;
  void rope(TensorView x, std::span<const int32_t> positions, const RopeTable& table) override;
  void store_kv(const KvView& kv, TensorView k, TensorView v, const Batch& batch) override;
  void attention(
      TensorView out, TensorView q, const KvView& kv, int32_t window, const Batch& batch) override;
  void activate(TensorView out,
                TensorView gate,
                TensorView up,
                const Activation& activation) override;
  void route(const Routing& routing,
             TensorView x,
             const RouterWeightsView& router,
             float eps) override;
  void experts(TensorView out,
               TensorView x,
               const ExpertWeights& weights,
               const Routing& routing,
               const Activation& activation) override;
  void add(TensorView x, TensorView y) override;
  void scale(TensorView x, float factor) override;
  void soft_cap(TensorView x, float cap) override;
  void gather_rows(TensorView out, TensorView x, std::span<const int32_t> rows) override;
  void prepare_attention(const AttentionRows& rows,
                         const KvView& kv,
                         const RopeTable& rope,
                         const Batch& batch,
                         float eps) override;
  void add_rms_norm(
      TensorView x, TensorView h, std::span<const float> weight, float eps, float factor) override;
  void join_branches(TensorView dense,
                     TensorView sparse,
                     std::span<const float> dense_weight,
                     std::span<const float> sparse_weight,
                     float eps) override;

 private:
  void run_experts(const ExpertsLayer& layer, const ExpertsArgs& args);
  void run_fp4_experts(const Fp4Layer& layer, const ExpertsArgs& args);
  void linear_fp4(const LinearArgs& args);
  PagedKv paged(const KvView& kv, const Batch& batch) const;
  /// Workspace of at least `bytes`; graphs that hold its old place are forgotten.
  std::byte* workspace(Workspace& of, int64_t bytes);
  void forget_graphs();

  const CudaOptions options_;
  const GpuKernels kernels_;
  std::string description_;
  cudaStream_t stream_ = nullptr;
  WeightStore weights_;
  StepArena arena_;
  StepGraphs graphs_;
  int64_t steps_ = 0;
  Workspace route_logits_;
  Workspace linear_;
  Workspace experts_;
  Workspace attention_parts_;
  PinnedBuffer result_;
};

}  // namespace facet::cuda
