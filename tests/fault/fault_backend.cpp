#include "tests/fault/fault_backend.h"

#include <fmt/core.h>
#include <stdexcept>

namespace facet::test {

FaultBackend::FaultBackend(Backend& inner, FaultState& faults)
    : WrappedBackend(inner), inner_(inner), faults_(faults) {}

void FaultBackend::count(std::string_view op) {
  if (faults_.fails(phase_)) throw std::runtime_error(fmt::format("{}: a planted fault", op));
}

void FaultBackend::embed(TensorView out,
                         const WeightMatrix& table,
                         std::span<const int32_t> ids,
                         float scale) {
  phase_ = ids.size() > 1 ? FaultKind::kPrefillOp : FaultKind::kDecodeOp;
  count("embed");
  inner_.embed(out, table, ids, scale);
}

void FaultBackend::rms_norm(TensorView out,
                            TensorView x,
                            std::span<const float> weight,
                            float eps) {
  count("rms_norm");
  inner_.rms_norm(out, x, weight, eps);
}

void FaultBackend::linear(TensorView out, TensorView x, const WeightMatrix& w) {
  count("linear");
  inner_.linear(out, x, w);
}

void FaultBackend::rope(TensorView x, std::span<const int32_t> positions, const RopeTable& table) {
  count("rope");
  inner_.rope(x, positions, table);
}

void FaultBackend::store_kv(const KvView& kv, TensorView k, TensorView v, const Batch& batch) {
  count("store_kv");
  inner_.store_kv(kv, k, v, batch);
}

void FaultBackend::attention(
    TensorView out, TensorView q, const KvView& kv, int32_t window, const Batch& batch) {
  count("attention");
  inner_.attention(out, q, kv, window, batch);
}

void FaultBackend::activate(TensorView out,
                            TensorView gate,
                            TensorView up,
                            const Activation& activation) {
  count("activate");
  inner_.activate(out, gate, up, activation);
}

void FaultBackend::gather_rows(TensorView out, TensorView x, std::span<const int32_t> rows) {
  count("gather_rows");
  inner_.gather_rows(out, x, rows);
}

void FaultBackend::add_rms_norm(
    TensorView x, TensorView h, std::span<const float> weight, float eps, float factor) {
  count("add_rms_norm");
  inner_.add_rms_norm(x, h, weight, eps, factor);
}

}  // namespace facet::test
