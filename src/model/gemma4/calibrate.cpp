#include "model/gemma4/calibrate.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "base/check.h"

namespace facet::gemma4 {
namespace {

/// [rows, width] float32 values of its own.
struct Block {
  Block(int64_t rows, int64_t width)
      : values(static_cast<size_t>(rows * width)),
        view(values.data(), DType::kF32, {rows, width}) {}

  std::vector<float> values;
  TensorView view;
};

class ObservingBackend final : public Backend {
 public:
  ObservingBackend(Backend& inner, InputRanges& ranges) : inner_(inner), ranges_(ranges) {
    CHECK(inner.allocator().device == Device::kHost, "calibration reads activations on the host");
  }

  std::string_view describe() const override { return inner_.describe(); }
  const Buffer::Allocator& allocator() const override { return inner_.allocator(); }
  void embed(TensorView out,
             const WeightMatrix& table,
             std::span<const int32_t> ids,
             float scale) override {
    inner_.embed(out, table, ids, scale);
  }
  void rms_norm(TensorView out, TensorView x, std::span<const float> weight, float eps) override {
    inner_.rms_norm(out, x, weight, eps);
  }
  void linear(TensorView out, TensorView x, const WeightMatrix& w) override {
    observe(x, w);
    inner_.linear(out, x, w);
  }
  void rope(TensorView x, std::span<const int32_t> positions, const RopeTable& table) override {
    inner_.rope(x, positions, table);
  }
  void store_kv(const KvView& kv, TensorView k, TensorView v, const Batch& batch) override {
    inner_.store_kv(kv, k, v, batch);
  }
  void attention(
      TensorView out, TensorView q, const KvView& kv, int32_t window, const Batch& batch) override {
    inner_.attention(out, q, kv, window, batch);
  }
  void activate(TensorView out,
                TensorView gate,
                TensorView up,
                const Activation& activation) override {
    inner_.activate(out, gate, up, activation);
  }
  void route(const Routing& routing,
             TensorView x,
             const RouterWeightsView& router,
             float eps) override {
    inner_.route(routing, x, router, eps);
  }
  void add(TensorView x, TensorView y) override { inner_.add(x, y); }
  void scale(TensorView x, float factor) override { inner_.scale(x, factor); }
  void soft_cap(TensorView x, float cap) override { inner_.soft_cap(x, cap); }
  void gather_rows(TensorView out, TensorView x, std::span<const int32_t> rows) override {
    inner_.gather_rows(out, x, rows);
  }

  void experts(TensorView out,
               TensorView x,
               const ExpertWeights& weights,
               const Routing& routing,
               const Activation& activation) override {
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
      const Block result = run_expert(x, rows, weights.experts[static_cast<size_t>(e)], activation);
      for (size_t r = 0; r < rows.size(); ++r) {
        float* sum = &sums[static_cast<size_t>(rows[r]) * hidden];
        for (size_t c = 0; c < hidden; ++c) sum[c] += factors[r] * result.values[r * hidden + c];
      }
    }
  }

 private:
  Block run_expert(TensorView x,
                   std::span<const int32_t> rows,
                   const ExpertMatrices& expert,
                   const Activation& activation) {
    const auto count = static_cast<int64_t>(rows.size());
    const Block input(count, x.shape()[1]);
    const Block up(count, expert.up.rows);
    const Block gate(expert.gate.empty() ? 0 : count, expert.up.rows);
    Block output(count, x.shape()[1]);
    inner_.gather_rows(input.view, x, rows);
    if (!expert.gate.empty()) linear(gate.view, input.view, expert.gate);
    linear(up.view, input.view, expert.up);
    inner_.activate(up.view, expert.gate.empty() ? TensorView() : gate.view, up.view, activation);
    linear(output.view, up.view, expert.down);
    return output;
  }

  void observe(TensorView x, const WeightMatrix& w) {
    float& largest = ranges_[w.data];
    for (const float value : x.as<float>()) largest = std::max(largest, std::abs(value));
  }

  Backend& inner_;
  InputRanges& ranges_;
};

}  // namespace

std::unique_ptr<Backend> make_observing_backend(Backend& inner, InputRanges& ranges) {
  return std::make_unique<ObservingBackend>(inner, ranges);
}

}  // namespace facet::gemma4
