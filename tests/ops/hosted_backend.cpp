#include "tests/ops/hosted_backend.h"

#include <vector>

#include "tests/ops/hosted_there.h"

namespace facet::test {

void HostedBackend::begin(std::span<const int32_t> ids,
                          const Batch& batch,
                          std::span<const KvView> kv) {
  inner_->begin_step({.ids = ids, .logit_rows = {}, .batch = batch, .kv = kv, .watched = true});
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
  const CacheThere cache(kv, *inner_);
  begin({}, batch, {&cache.view(), 1});
  const There from_k(k, *inner_);
  const There from_v(v, *inner_);
  inner_->store_kv(cache.view(), from_k.view(), from_v.view(), batch);
  cache.take_back();
}

void HostedBackend::attention(
    TensorView out, TensorView q, const KvView& kv, int32_t window, const Batch& batch) {
  const CacheThere cache(kv, *inner_);
  begin({}, batch, {&cache.view(), 1});
  const There to(out, *inner_);
  const There from(q, *inner_);
  inner_->attention(to.view(), from.view(), cache.view(), window, batch);
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
  inner_->begin_step(
      {.logit_rows = rows, .batch = {}, .watched = true, .top_logits = true, .draws = draws_});
  const There from(logits, *inner_);
  inner_->select_top(from.view());
  inner_->end_step(from.view());
}

}  // namespace facet::test
