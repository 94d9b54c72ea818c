#include <memory>
#include <vector>

#include "tests/ops/hosted_there.h"

namespace facet::test {

void HostedBackend::prepare_attention(const AttentionRows& rows,
                                      const KvView& kv,
                                      const RopeTable& rope,
                                      const Batch& batch,
                                      float eps) {
  inner_->load({.vectors = {rows.q_norm, rows.k_norm, rope.frequencies}});
  const CacheThere cache(kv, *inner_);
  begin({}, batch, {&cache.view(), 1});
  const There q(rows.q, *inner_);
  const There k(rows.k, *inner_);
  const There v(rows.v, *inner_);
  inner_->prepare_attention({q.view(), k.view(), v.view(), rows.v_is_k, rows.q_norm, rows.k_norm},
                            cache.view(), rope, batch, eps);
  q.take_back();
  cache.take_back();
}

void HostedBackend::attend(TensorView out,
                           const AttentionRows& rows,
                           const KvView& kv,
                           const RopeTable& rope,
                           int32_t window,
                           const Batch& batch,
                           float eps) {
  inner_->load({.vectors = {rows.q_norm, rows.k_norm, rope.frequencies}});
  const CacheThere cache(kv, *inner_);
  begin({}, batch, {&cache.view(), 1});
  const There to(out, *inner_);
  const There q(rows.q, *inner_);
  const There k(rows.k, *inner_);
  const There v(rows.v, *inner_);
  inner_->attend(to.view(), {q.view(), k.view(), v.view(), rows.v_is_k, rows.q_norm, rows.k_norm},
                 cache.view(), rope, window, batch, eps);
  to.take_back();
  cache.take_back();
}

/// A residual stream on the device, for one op.
class HostedBackend::StreamThere {
 public:
  StreamThere(ResidualStream& host, const Backend& inner)
      : host_(host),
        x_(host.x, inner),
        spare_(host.spare, inner),
        branch_(host.pending.branch, inner),
        sparse_(host.pending.sparse, inner) {
    there_ = {x_.view(), spare_.view(), host.pending};
    there_.pending.branch = branch_.view();
    there_.pending.sparse = sparse_.view();
  }
  /// The vectors of what is pending.
  static std::vector<std::span<const float>> vectors(const PendingBranch& pending) {
    if (pending.branch.empty()) return {};
    if (pending.sparse.empty()) return {pending.weight};
    return {pending.weight, pending.branch_norm, pending.sparse_norm};
  }
  ResidualStream& stream() { return there_; }
  /// x, wherever the op left it.
  void take_back(const Backend& inner) {
    inner.allocator().copy(host_.x.data(), there_.x.data(), host_.x.bytes());
    host_.pending = {};
  }

 private:
  ResidualStream& host_;
  There x_;
  There spare_;
  There branch_;
  There sparse_;
  ResidualStream there_;
};

void HostedBackend::settle(ResidualStream& stream, float eps) {
  inner_->load({.vectors = StreamThere::vectors(stream.pending)});
  StreamThere there(stream, *inner_);
  inner_->settle(there.stream(), eps);
  there.take_back(*inner_);
}

void HostedBackend::norm_stream(ResidualStream& stream,
                                TensorView out,
                                std::span<const float> weight,
                                float eps) {
  ModelOperands operands = {.vectors = StreamThere::vectors(stream.pending)};
  operands.vectors.push_back(weight);
  inner_->load(operands);
  StreamThere there(stream, *inner_);
  const There to(out, *inner_);
  inner_->norm_stream(there.stream(), to.view(), weight, eps);
  there.take_back(*inner_);
  to.take_back();
}

void HostedBackend::project(ResidualStream& stream,
                            TensorView h,
                            std::span<const float> weight,
                            std::span<const Projection> products,
                            float eps) {
  std::vector<WeightMatrix> matrices;
  for (const Projection& product : products) matrices.push_back(product.w);
  ModelOperands operands = {.vectors = StreamThere::vectors(stream.pending)};
  for (WeightMatrix& matrix : matrices) operands.matrices.push_back(&matrix);
  operands.vectors.push_back(weight);
  inner_->load(operands);
  StreamThere there(stream, *inner_);
  const There room(h, *inner_);
  std::vector<std::unique_ptr<There>> outs;
  std::vector<Projection> products_there;
  for (size_t i = 0; i < products.size(); ++i) {
    outs.push_back(std::make_unique<There>(products[i].out, *inner_));
    products_there.push_back({outs.back()->view(), matrices[i]});
  }
  inner_->project(there.stream(), room.view(), weight, products_there, eps);
  there.take_back(*inner_);
  for (const auto& out : outs) out->take_back();
}

void HostedBackend::enter_feed_forward(ResidualStream& stream,
                                       const FeedForwardRows& rows,
                                       const FeedForward& layer,
                                       float eps) {
  WeightMatrix gate = layer.gate;
  WeightMatrix up = layer.up;
  RouterWeightsView router = layer.router;
  ModelOperands operands = {.matrices = {&up}, .vectors = StreamThere::vectors(stream.pending)};
  operands.vectors.push_back(layer.norm);
  if (!gate.empty()) operands.matrices.push_back(&gate);
  if (layer.experts != nullptr) {
    operands.matrices.push_back(&router.proj);
    for (const auto& vector : {router.scale, router.per_expert_scale, layer.experts_norm})
      operands.vectors.push_back(vector);
  }
  inner_->load(operands);
  StreamThere there(stream, *inner_);
  const There h(rows.h, *inner_);
  const There gate_room(rows.gate, *inner_);
  const There inner(rows.inner, *inner_);
  const There experts_in(rows.experts_in, *inner_);
  const There experts(rows.routing.experts, *inner_);
  const There weights(rows.routing.weights, *inner_);
  inner_->enter_feed_forward(there.stream(),
                             {h.view(),
                              gate_room.view(),
                              inner.view(),
                              {},
                              experts_in.view(),
                              {},
                              {experts.view(), weights.view()}},
                             {layer.norm, gate, up, layer.down, layer.activation, layer.experts,
                              router, layer.experts_norm},
                             eps);
  there.take_back(*inner_);
  for (const There* taken : {&inner, &experts_in, &experts, &weights})
    if (!taken->view().empty()) taken->take_back();
}

void HostedBackend::leave_feed_forward(const FeedForwardRows& rows, const FeedForward& layer) {
  WeightMatrix down = layer.down;
  ExpertWeights experts;
  ModelOperands operands = {.matrices = {&down}};
  if (layer.experts != nullptr) {
    experts = *layer.experts;
    operands.experts.push_back(&experts);
  }
  inner_->load(operands);
  const There inner(rows.inner, *inner_);
  const There dense(rows.dense, *inner_);
  const There experts_in(rows.experts_in, *inner_);
  const There sparse(rows.sparse, *inner_);
  const There chosen(rows.routing.experts, *inner_);
  const There weights(rows.routing.weights, *inner_);
  inner_->leave_feed_forward(
      {{},
       {},
       inner.view(),
       dense.view(),
       experts_in.view(),
       sparse.view(),
       {chosen.view(), weights.view()}},
      {layer.norm, layer.gate, layer.up, down, layer.activation,
       layer.experts == nullptr ? nullptr : &experts, layer.router, layer.experts_norm});
  dense.take_back();
  if (!sparse.view().empty()) sparse.take_back();
}

void HostedBackend::add_rms_norm(
    TensorView x, TensorView h, std::span<const float> weight, float eps, float factor) {
  inner_->load({.vectors = {weight}});
  const There to(x, *inner_);
  const There from(h, *inner_);
  inner_->add_rms_norm(to.view(), from.view(), weight, eps, factor);
  to.take_back();
}

void HostedBackend::join_branches(TensorView dense,
                                  TensorView sparse,
                                  std::span<const float> dense_weight,
                                  std::span<const float> sparse_weight,
                                  float eps) {
  inner_->load({.vectors = {dense_weight, sparse_weight}});
  const There to(dense, *inner_);
  const There from(sparse, *inner_);
  inner_->join_branches(to.view(), from.view(), dense_weight, sparse_weight, eps);
  to.take_back();
}

}  // namespace facet::test
