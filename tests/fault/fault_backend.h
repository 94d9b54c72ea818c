#pragma once

#include <span>
#include <string_view>

#include "kernels/wrapped_backend.h"
#include "tests/fault/fault_state.h"

namespace facet::test {

/// Throws from the op that `faults` names. For backends without experts.
class FaultBackend final : public WrappedBackend {
 public:
  /// Both must outlive it.
  FaultBackend(Backend& inner, FaultState& faults);

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
  void gather_rows(TensorView out, TensorView x, std::span<const int32_t> rows) override;
  void add_rms_norm(
      TensorView x, TensorView h, std::span<const float> weight, float eps, float factor) override;

 private:
  void count(std::string_view op);

  Backend& inner_;
  FaultState& faults_;
  FaultKind phase_ = FaultKind::kNone;  // of the step
};

}  // namespace facet::test
