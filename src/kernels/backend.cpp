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
