#pragma once

#include <functional>
#include <memory>

#include "kernels/backend.h"

namespace facet::test {

/// A backend of another device behind operands on the host: each op brings its operands there and
/// takes back what it wrote. So the suites, which know the host only, run on it.
class HostedBackend final : public Backend {
 public:
  explicit HostedBackend(std::unique_ptr<Backend> inner) : inner_(std::move(inner)) {}

  std::string_view describe() const override { return inner_->describe(); }
  const Buffer::Allocator& allocator() const override { return host_allocator(); }

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
  /// Only its draws count: each op begins a step of its own.
  bool begin_step(const StepInputs& inputs) override {
    draws_ = inputs.draws;
    return true;
  }
  void select_top(TensorView logits) override;
  std::span<const TopLogits> top_logits() const override { return inner_->top_logits(); }
  std::span<const int32_t> drawn() const override { return inner_->drawn(); }
  void prepare_attention(const AttentionRows& rows,
                         const KvView& kv,
                         const RopeTable& rope,
                         const Batch& batch,
                         float eps) override;
  void settle(ResidualStream& stream, float eps) override;
  void norm_stream(ResidualStream& stream,
                   TensorView out,
                   std::span<const float> weight,
                   float eps) override;
  void project(ResidualStream& stream,
               TensorView h,
               std::span<const float> weight,
               std::span<const Projection> products,
               float eps) override;
  void enter_feed_forward(ResidualStream& stream,
                          const FeedForwardRows& rows,
                          const FeedForward& layer,
                          float eps) override;
  void leave_feed_forward(const FeedForwardRows& rows, const FeedForward& layer) override;
  void attend(TensorView out,
              const AttentionRows& rows,
              const KvView& kv,
              const RopeTable& rope,
              int32_t window,
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
  class There;
  class CacheThere;
  class StreamThere;
  /// A step of `batch`, begun on the device.
  void begin(std::span<const int32_t> ids, const Batch& batch, std::span<const KvView> kv);

  std::unique_ptr<Backend> inner_;
  std::span<const DrawSpec> draws_;
};

}  // namespace facet::test
