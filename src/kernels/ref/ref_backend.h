#pragma once

#include <memory>
#include <string_view>

#include "kernels/backend.h"

namespace facet::ref {

/// The oracle: every op as its formula reads, one thread, no tricks. Values are float32; sums and
/// transcendental functions are taken in double and rounded once, except RoPE's cos and sin, which
/// rope.h wants in float32. Shapes that do not fit together are CHECK failures.
class RefBackend final : public Backend {
 public:
  std::string_view describe() const override { return "ref"; }
  const Buffer::Allocator& allocator() const override { return host_allocator(); }

  // ref_backend.cpp
  void embed(TensorView out,
             const WeightMatrix& table,
             std::span<const int32_t> ids,
             float scale) override;
  void rms_norm(TensorView out, TensorView x, std::span<const float> weight, float eps) override;
  void linear(TensorView out, TensorView x, const WeightMatrix& w) override;
  void rope(TensorView x, std::span<const int32_t> positions, const RopeTable& table) override;
  void activate(TensorView out,
                TensorView gate,
                TensorView up,
                const Activation& activation) override;
  void add(TensorView x, TensorView y) override;
  void scale(TensorView x, float factor) override;
  void soft_cap(TensorView x, float cap) override;
  void gather_rows(TensorView out, TensorView x, std::span<const int32_t> rows) override;

  // ref_attention.cpp
  void store_kv(const KvView& kv, TensorView k, TensorView v, const Batch& batch) override;
  /// As Backend::attention. A kNoPage inside the visible range is a CHECK failure.
  void attention(
      TensorView out, TensorView q, const KvView& kv, int32_t window, const Batch& batch) override;

  // ref_moe.cpp
  void route(const Routing& routing,
             TensorView x,
             const RouterWeightsView& router,
             float eps) override;
  void experts(TensorView out,
               TensorView x,
               const ExpertWeights& weights,
               const Routing& routing,
               const Activation& activation) override;
};

std::unique_ptr<Backend> make_ref_backend();

}  // namespace facet::ref
