#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "kernels/backend.h"
#include "model/gemma4/gemma4_model.h"

namespace facet::test {

/// A backend whose rows carry 64 bits instead of numbers: ops copy them, and the few that matter
/// are left to a subclass. So a step costs next to nothing, while keys go into the pages of the
/// real cache and come back through the real page tables. For models of make_fake_model() only.
class FakeOps : public Backend {
 public:
  /// Logits stay on the "device" where the engine allows it: it gets the largest of each row, and
  /// all that it fetches.
  bool keeps_logits = false;
  /// And draws tokens from them where the engine says how.
  bool draws_tokens = false;

  const Buffer::Allocator& allocator() const override { return host_allocator(); }

  void embed(TensorView out,
             const WeightMatrix& table,
             std::span<const int32_t> ids,
             float scale) override;
  void rms_norm(TensorView out, TensorView x, std::span<const float> weight, float eps) override;
  void linear(TensorView out, TensorView x, const WeightMatrix& w) override;
  void rope(TensorView x, std::span<const int32_t> positions, const RopeTable& table) override;
  void store_kv(const KvView& kv, TensorView k, TensorView v, const Batch& batch) override;
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
  bool begin_step(const StepInputs& inputs) override;
  void select_top(TensorView logits) override;
  TensorView end_step(TensorView result) override;
  std::span<const TopLogits> top_logits() const override { return top_; }
  std::span<const int32_t> drawn() const override { return drawn_; }
  TensorView fetch(TensorView rows) override;
  void add_rms_norm(
      TensorView x, TensorView h, std::span<const float> weight, float eps, float factor) override;

 protected:
  virtual uint64_t row_of(int32_t id) = 0;
  virtual uint64_t at_position(uint64_t row, int32_t position) = 0;
  /// x after a branch gave h.
  virtual uint64_t joined(uint64_t x, uint64_t h) = 0;
  virtual void logits_of(uint64_t row, std::span<float> logits) = 0;
  /// Called with the rows of each step before anything else.
  virtual void begin_rows(int32_t /*rows*/) {}

  static uint64_t get(const TensorView& x, int64_t row);
  static void set(const TensorView& x, int64_t row, uint64_t value);
  /// What store_kv wrote for a position of a sequence of the batch; 0 if its page is gone.
  static uint64_t stored(const KvView& kv, size_t sequence, int32_t position);

 private:
  bool kept_ = false;  // the logits of this step
  std::vector<std::vector<TopLogits::Entry>> entries_;
  std::vector<TopLogits> top_;
  std::span<const DrawSpec> draws_;
  std::vector<int32_t> drawn_;
  std::vector<float> fetched_;
};

/// The smallest model that has both kinds of attention: one sliding layer, one full one.
struct FakeModelOptions {
  int32_t vocab_size = 32;
  int32_t window = 6;
  int32_t max_rows = 64;
  int32_t max_logit_rows = 16;
  int32_t max_positions = 1 << 20;
};
std::unique_ptr<gemma4::Gemma4Model> make_fake_model(Backend& backend,
                                                     const FakeModelOptions& options);

}  // namespace facet::test
