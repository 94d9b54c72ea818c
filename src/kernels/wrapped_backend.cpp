#include "kernels/wrapped_backend.h"

#include <algorithm>
#include <vector>

#include "base/check.h"

namespace facet {
namespace {

/// [rows, width] float32 values of its own.
struct Block {
  Block(int64_t rows, int64_t width)
      : values(static_cast<size_t>(rows * width)),
        view(values.data(), DType::kF32, {rows, width}) {}

  std::vector<float> values;
  TensorView view;
};

/// down · act(gate · x[row], up · x[row]) for each of the rows.
Block run_expert(Backend& backend,
                 TensorView x,
                 std::span<const int32_t> rows,
                 const ExpertMatrices& expert,
                 const Activation& activation) {
  const auto count = static_cast<int64_t>(rows.size());
  const Block input(count, x.shape()[1]);
  const Block up(count, expert.up.rows);
  const bool gated = activation.gating == Gating::kGated;
  const Block gate(gated ? count : 0, expert.up.rows);
  Block output(count, x.shape()[1]);
  backend.gather_rows(input.view, x, rows);
  if (gated) backend.linear(gate.view, input.view, expert.gate);
  backend.linear(up.view, input.view, expert.up);
  backend.activate(up.view, gated ? gate.view : TensorView(), up.view, activation);
  backend.linear(output.view, up.view, expert.down);
  return output;
}

}  // namespace

WrappedBackend::WrappedBackend(Backend& inner) : inner_(inner) {
  CHECK(inner.allocator().device == Device::kHost, "a wrapper computes on the host");
}

std::string_view WrappedBackend::describe() const { return inner_.describe(); }

const Buffer::Allocator& WrappedBackend::allocator() const { return inner_.allocator(); }

KernelChoice WrappedBackend::linear_kernel(const WeightMatrix& matrix) const {
  return inner_.linear_kernel(matrix);
}

KernelChoice WrappedBackend::experts_kernel(const ExpertWeights& experts,
                                            const Activation& activation) const {
  return inner_.experts_kernel(experts, activation);
}

KernelChoice WrappedBackend::attention_kernel(const AttentionShape& shape) const {
  return inner_.attention_kernel(shape);
}

std::optional<KernelChoice> WrappedBackend::step_kernel(const StepQuery& query) const {
  return inner_.step_kernel(query);
}

void WrappedBackend::embed(TensorView out,
                           const WeightMatrix& table,
                           std::span<const int32_t> ids,
                           float scale) {
  inner_.embed(out, table, ids, scale);
}

void WrappedBackend::rms_norm(TensorView out,
                              TensorView x,
                              std::span<const float> weight,
                              float eps) {
  inner_.rms_norm(out, x, weight, eps);
}

void WrappedBackend::linear(TensorView out, TensorView x, const WeightMatrix& w) {
  inner_.linear(out, x, w);
}

void WrappedBackend::rope(TensorView x,
                          std::span<const int32_t> positions,
                          const RopeTable& table) {
  inner_.rope(x, positions, table);
}

void WrappedBackend::store_kv(const KvView& kv, TensorView k, TensorView v, const Batch& batch) {
  inner_.store_kv(kv, k, v, batch);
}

void WrappedBackend::attention(
    TensorView out, TensorView q, const KvView& kv, int32_t window, const Batch& batch) {
  inner_.attention(out, q, kv, window, batch);
}

void WrappedBackend::activate(TensorView out,
                              TensorView gate,
                              TensorView up,
                              const Activation& activation) {
  inner_.activate(out, gate, up, activation);
}

void WrappedBackend::route(const Routing& routing,
                           TensorView x,
                           const RouterWeightsView& router,
                           float eps) {
  inner_.route(routing, x, router, eps);
}

void WrappedBackend::experts(TensorView out,
                             TensorView x,
                             const ExpertWeights& weights,
                             const Routing& routing,
                             const Activation& activation) {
  const auto chosen = routing.experts.as<int32_t>();
  const auto share = routing.weights.as<float>();
  const auto top_k = static_cast<size_t>(routing.experts.shape()[1]);
  const auto hidden = static_cast<size_t>(x.shape()[1]);
  const std::span<float> sums = out.as<float>();
  std::fill(sums.begin(), sums.end(), 0.0F);
  for (int32_t e = 0; e < weights.count(); ++e) {
    std::vector<int32_t> rows;
    std::vector<float> factors;
    for (size_t pair = 0; pair < chosen.size(); ++pair) {
      if (chosen[pair] != e) continue;
      rows.push_back(static_cast<int32_t>(pair / top_k));
      factors.push_back(share[pair]);
    }
    if (rows.empty()) continue;
    const Block result =
        run_expert(*this, x, rows, weights.experts[static_cast<size_t>(e)], activation);
    for (size_t r = 0; r < rows.size(); ++r) {
      float* sum = &sums[static_cast<size_t>(rows[r]) * hidden];
      for (size_t c = 0; c < hidden; ++c) sum[c] += factors[r] * result.values[r * hidden + c];
    }
  }
}

void WrappedBackend::add(TensorView x, TensorView y) { inner_.add(x, y); }

void WrappedBackend::scale(TensorView x, float factor) { inner_.scale(x, factor); }

void WrappedBackend::soft_cap(TensorView x, float cap) { inner_.soft_cap(x, cap); }

void WrappedBackend::gather_rows(TensorView out, TensorView x, std::span<const int32_t> rows) {
  inner_.gather_rows(out, x, rows);
}

}  // namespace facet
