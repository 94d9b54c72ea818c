#pragma once

#include "kernels/backend.h"

namespace facet {

/// Computes as `inner` does (experts() to the last bits), for a wrapper that watches or changes
/// single ops by overriding them. Every op is passed on except experts(), which is composed here of
/// linear() and activate(), so that an override of these meets the matrices of experts too: slow,
/// one expert after another. `inner` must outlive it, and its memory must be the host's.
class WrappedBackend : public Backend {
 public:
  explicit WrappedBackend(Backend& inner);

  std::string_view describe() const override;
  const Buffer::Allocator& allocator() const override;
  KernelChoice linear_kernel(const WeightMatrix& matrix) const override;
  KernelChoice experts_kernel(const ExpertWeights& experts,
                              const Activation& activation) const override;
  KernelChoice attention_kernel(const AttentionShape& shape) const override;
  std::optional<KernelChoice> step_kernel(const StepQuery& query) const override;
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

 private:
  Backend& inner_;
};

}  // namespace facet
