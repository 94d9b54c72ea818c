#include "kernels/backend.h"

namespace facet {

KernelChoice Backend::linear_kernel(const WeightMatrix& /*matrix*/) const {
  return {std::string(describe()), "the only kernel of this backend"};
}

KernelChoice Backend::experts_kernel(const ExpertWeights& /*experts*/,
                                     const Activation& /*activation*/) const {
  return {std::string(describe()), "the only kernel of this backend"};
}

KernelChoice Backend::attention_kernel(const AttentionShape& /*shape*/) const {
  return {std::string(describe()), "the only kernel of this backend"};
}

void Backend::prepare_attention(const AttentionRows& rows,
                                const KvView& kv,
                                const RopeTable& table,
                                const Batch& batch,
                                float eps) {
  rms_norm(rows.q, rows.q, rows.q_norm, eps);
  rope(rows.q, batch.positions, table);
  if (rows.k.empty()) return;
  // Where K and V share a projection, V is taken before K's norm and rotation.
  rms_norm(rows.v, rows.v_is_k ? rows.k : rows.v, {}, eps);
  rms_norm(rows.k, rows.k, rows.k_norm, eps);
  rope(rows.k, batch.positions, table);
  store_kv(kv, rows.k, rows.v, batch);
}

void Backend::attend(TensorView out,
                     const AttentionRows& rows,
                     const KvView& kv,
                     const RopeTable& rope,
                     int32_t window,
                     const Batch& batch,
                     float eps) {
  prepare_attention(rows, kv, rope, batch, eps);
  attention(out, rows.q, kv, window, batch);
}

void Backend::settle(ResidualStream& stream, float eps) {
  const PendingBranch& p = stream.pending;
  if (p.branch.empty()) return;
  if (!p.sparse.empty()) join_branches(p.branch, p.sparse, p.branch_norm, p.sparse_norm, eps);
  add_rms_norm(stream.x, p.branch, p.weight, eps, p.factor);
  stream.pending = {};
}

void Backend::norm_stream(ResidualStream& stream,
                          TensorView out,
                          std::span<const float> weight,
                          float eps) {
  settle(stream, eps);
  rms_norm(out, stream.x, weight, eps);
}

void Backend::project(ResidualStream& stream,
                      TensorView h,
                      std::span<const float> weight,
                      std::span<const Projection> products,
                      float eps) {
  norm_stream(stream, h, weight, eps);
  for (const Projection& product : products) linear(product.out, h, product.w);
}

void Backend::enter_feed_forward(ResidualStream& stream,
                                 const FeedForwardRows& rows,
                                 const FeedForward& layer,
                                 float eps) {
  norm_stream(stream, rows.h, layer.norm, eps);
  if (!rows.gate.empty()) linear(rows.gate, rows.h, layer.gate);
  linear(rows.inner, rows.h, layer.up);
  activate(rows.inner, rows.gate, rows.inner, layer.activation);
  if (layer.experts == nullptr) return;
  route(rows.routing, stream.x, layer.router, eps);
  rms_norm(rows.experts_in, stream.x, layer.experts_norm, eps);
}

void Backend::leave_feed_forward(const FeedForwardRows& rows, const FeedForward& layer) {
  linear(rows.dense, rows.inner, layer.down);
  if (layer.experts == nullptr) return;
  experts(rows.sparse, rows.experts_in, *layer.experts, rows.routing, layer.activation);
}

void Backend::add_rms_norm(
    TensorView x, TensorView h, std::span<const float> weight, float eps, float factor) {
  rms_norm(h, h, weight, eps);
  add(x, h);
  if (factor != 1.0F) scale(x, factor);
}

void Backend::join_branches(TensorView dense,
                            TensorView sparse,
                            std::span<const float> dense_weight,
                            std::span<const float> sparse_weight,
                            float eps) {
  rms_norm(dense, dense, dense_weight, eps);
  rms_norm(sparse, sparse, sparse_weight, eps);
  add(dense, sparse);
}

}  // namespace facet
