#include "tests/ops/hosted_backend.h"

#include <algorithm>
#include <cstring>
#include <vector>

namespace facet::test {

/// A view's content on the device, for one op.
class HostedBackend::There {
 public:
  There(const TensorView& host, const Backend& inner) : There(host.data(), host.bytes(), inner) {
    if (host.empty()) return;
    view_ = {memory_.data(), host.dtype(), host.shape(), memory_.device()};
  }
  There(void* host, int64_t bytes, const Backend& inner)
      : host_(host), memory_(host == nullptr ? 0 : bytes, inner.allocator()) {
    if (host != nullptr) memory_.allocator().copy(memory_.data(), host, memory_.bytes());
  }
  TensorView view() const { return view_; }
  std::byte* data() const { return memory_.data(); }
  void take_back() const { memory_.allocator().copy(host_, memory_.data(), memory_.bytes()); }

 private:
  void* host_;
  Buffer memory_;
  TensorView view_;
};

void HostedBackend::begin(std::span<const int32_t> ids,
                          const Batch& batch,
                          std::span<const KvView> kv) {
  inner_->begin_step({.ids = ids, .logit_rows = {}, .batch = batch, .kv = kv, .watched = true});
}

int64_t HostedBackend::reached(const KvView& kv) {
  int32_t pages = 0;
  for (const std::span<const PageId> table : kv.page_tables) {
    for (const PageId page : table) pages = std::max(pages, to_index(page) + 1);
  }
  return pages * page_elements(kv.layout) * bits_of(kv.layout.dtype) / 8;
}

void HostedBackend::embed(TensorView out,
                          const WeightMatrix& table,
                          std::span<const int32_t> ids,
                          float scale) {
  WeightMatrix there = table;
  inner_->load({.matrices = {&there}});
  begin(ids, {}, {});
  const There to(out, *inner_);
  inner_->embed(to.view(), there, ids, scale);
  to.take_back();
}

void HostedBackend::rms_norm(TensorView out,
                             TensorView x,
                             std::span<const float> weight,
                             float eps) {
  if (!weight.empty()) inner_->load({.vectors = {weight}});
  const There from(x, *inner_);
  if (out.data() == x.data()) {
    inner_->rms_norm(from.view(), from.view(), weight, eps);
    return from.take_back();
  }
  const There to(out, *inner_);
  inner_->rms_norm(to.view(), from.view(), weight, eps);
  to.take_back();
}

void HostedBackend::linear(TensorView out, TensorView x, const WeightMatrix& w) {
  WeightMatrix there = w;
  inner_->load({.matrices = {&there}});
  const There to(out, *inner_);
  const There from(x, *inner_);
  inner_->linear(to.view(), from.view(), there);
  to.take_back();
}

void HostedBackend::rope(TensorView x, std::span<const int32_t> positions, const RopeTable& table) {
  inner_->load({.vectors = {table.frequencies}});
  begin({}, {.positions = positions, .sequence_of_row = {}, .sequences = {}}, {});
  const There to(x, *inner_);
  inner_->rope(to.view(), positions, table);
  to.take_back();
}

void HostedBackend::store_kv(const KvView& kv, TensorView k, TensorView v, const Batch& batch) {
  const There cache_k(kv.k, reached(kv), *inner_);
  const There cache_v(kv.v, reached(kv), *inner_);
  KvView there = kv;
  there.k = cache_k.data();
  there.v = cache_v.data();
  begin({}, batch, {&there, 1});
  const There from_k(k, *inner_);
  const There from_v(v, *inner_);
  inner_->store_kv(there, from_k.view(), from_v.view(), batch);
  cache_k.take_back();
  cache_v.take_back();
}

void HostedBackend::attention(
    TensorView out, TensorView q, const KvView& kv, int32_t window, const Batch& batch) {
  const There cache_k(kv.k, reached(kv), *inner_);
  const There cache_v(kv.v, reached(kv), *inner_);
  KvView there = kv;
  there.k = cache_k.data();
  there.v = cache_v.data();
  begin({}, batch, {&there, 1});
  const There to(out, *inner_);
  const There from(q, *inner_);
  inner_->attention(to.view(), from.view(), there, window, batch);
  to.take_back();
}

void HostedBackend::activate(TensorView out,
                             TensorView gate,
                             TensorView up,
                             const Activation& activation) {
  const There g(gate, *inner_);
  const There u(up, *inner_);
  if (out.data() == up.data() || out.data() == gate.data()) {
    const There& both = out.data() == up.data() ? u : g;
    inner_->activate(both.view(), g.view(), u.view(), activation);
    return both.take_back();
  }
  const There to(out, *inner_);
  inner_->activate(to.view(), g.view(), u.view(), activation);
  to.take_back();
}

void HostedBackend::route(const Routing& routing,
                          TensorView x,
                          const RouterWeightsView& router,
                          float eps) {
  RouterWeightsView there = router;
  inner_->load({.matrices = {&there.proj}, .vectors = {router.scale, router.per_expert_scale}});
  const There from(x, *inner_);
  const There experts(routing.experts, *inner_);
  const There weights(routing.weights, *inner_);
  inner_->route({experts.view(), weights.view()}, from.view(), there, eps);
  experts.take_back();
  weights.take_back();
}

void HostedBackend::experts(TensorView out,
                            TensorView x,
                            const ExpertWeights& weights,
                            const Routing& routing,
                            const Activation& activation) {
  ExpertWeights there = weights;
  inner_->load({.experts = {&there}, .activation = activation});
  const There to(out, *inner_);
  const There from(x, *inner_);
  const There chosen(routing.experts, *inner_);
  const There shares(routing.weights, *inner_);
  inner_->experts(to.view(), from.view(), there, {chosen.view(), shares.view()}, activation);
  to.take_back();
}

void HostedBackend::add(TensorView x, TensorView y) {
  const There to(x, *inner_);
  const There from(y, *inner_);
  inner_->add(to.view(), from.view());
  to.take_back();
}

void HostedBackend::scale(TensorView x, float factor) {
  const There to(x, *inner_);
  inner_->scale(to.view(), factor);
  to.take_back();
}

void HostedBackend::soft_cap(TensorView x, float cap) {
  const There to(x, *inner_);
  inner_->soft_cap(to.view(), cap);
  to.take_back();
}

void HostedBackend::gather_rows(TensorView out, TensorView x, std::span<const int32_t> rows) {
  begin(rows, {}, {});
  const There to(out, *inner_);
  const There from(x, *inner_);
  inner_->gather_rows(to.view(), from.view(), rows);
  to.take_back();
}

void HostedBackend::select_top(TensorView logits) {
  const std::vector<int32_t> rows(static_cast<size_t>(logits.rows()));
  inner_->begin_step({.logit_rows = rows, .batch = {}, .watched = true, .top_logits = true});
  const There from(logits, *inner_);
  inner_->select_top(from.view());
  inner_->end_step(from.view());
}

void HostedBackend::prepare_attention(const AttentionRows& rows,
                                      const KvView& kv,
                                      const RopeTable& rope,
                                      const Batch& batch,
                                      float eps) {
  inner_->load({.vectors = {rows.q_norm, rows.k_norm, rope.frequencies}});
  const There cache_k(kv.k, reached(kv), *inner_);
  const There cache_v(kv.v, reached(kv), *inner_);
  KvView there = kv;
  there.k = cache_k.data();
  there.v = cache_v.data();
  begin({}, batch, {&there, 1});
  const There q(rows.q, *inner_);
  const There k(rows.k, *inner_);
  const There v(rows.v, *inner_);
  inner_->prepare_attention({q.view(), k.view(), v.view(), rows.v_is_k, rows.q_norm, rows.k_norm},
                            there, rope, batch, eps);
  q.take_back();
  cache_k.take_back();
  cache_v.take_back();
}

void HostedBackend::attend(TensorView out,
                           const AttentionRows& rows,
                           const KvView& kv,
                           const RopeTable& rope,
                           int32_t window,
                           const Batch& batch,
                           float eps) {
  inner_->load({.vectors = {rows.q_norm, rows.k_norm, rope.frequencies}});
  const There cache_k(kv.k, reached(kv), *inner_);
  const There cache_v(kv.v, reached(kv), *inner_);
  KvView there = kv;
  there.k = cache_k.data();
  there.v = cache_v.data();
  begin({}, batch, {&there, 1});
  const There to(out, *inner_);
  const There q(rows.q, *inner_);
  const There k(rows.k, *inner_);
  const There v(rows.v, *inner_);
  inner_->attend(to.view(), {q.view(), k.view(), v.view(), rows.v_is_k, rows.q_norm, rows.k_norm},
                 there, rope, window, batch, eps);
  to.take_back();
  cache_k.take_back();
  cache_v.take_back();
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
