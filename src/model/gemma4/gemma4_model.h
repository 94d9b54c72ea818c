#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "kernels/backend.h"
#include "kernels/rope.h"
#include "model/gemma4/config.h"
#include "model/gemma4/weights.h"
#include "model/model.h"
#include "tensor/buffer.h"

namespace facet::gemma4 {

/// How much room a model's scratch has.
struct StepLimits {
  int32_t max_rows = 512;
  int32_t max_logit_rows = 1;
};

/// Gemma 4's text decoder: sliding and full attention, dense and mixture-of-experts feed-forward,
/// per-layer embeddings, shared KV. Everything a layer is comes from that layer's config. The steps
/// of forward() are in forward.cpp, what they need around them in gemma4_model.cpp.
class Gemma4Model final : public Model {
 public:
  /// `weights` view a checkpoint, which must outlive the model, as must `backend`, which loads
  /// them.
  Gemma4Model(Gemma4Config config,
              Weights weights,
              Activation activation,
              Backend& backend,
              StepLimits limits);

  int32_t vocab_size() const override { return config_.vocab_size; }
  int32_t max_positions() const override { return config_.max_position_embeddings; }
  int32_t max_rows() const override { return limits_.max_rows; }
  int32_t max_logit_rows() const override { return limits_.max_logit_rows; }
  std::vector<KvGroupSpec> kv_groups(int32_t page_size, DType dtype) const override;
  std::optional<TensorView> forward(const Step& step) override;
  std::span<const TopLogits> top_logits() const override { return backend_.top_logits(); }
  std::span<const int32_t> drawn() const override { return backend_.drawn(); }
  std::span<float> fetch_logits(int64_t row) override;

  /// The cache that layer `index` reads, its own or its donor's, among those of a step (Step::kv),
  /// with the checkpoint's scales.
  KvView kv_of(int32_t index, std::span<const KvView> kv) const;

  /// Bytes of activations, for a step of the largest size.
  int64_t scratch_bytes() const { return arena_.bytes(); }
  const Gemma4Config& config() const { return config_; }
  const Weights& weights() const { return weights_; }

 private:
  /// Scratch of a step: views of one arena, for max_rows rows or for the T rows of a step.
  struct Activations {
    TensorView x;               // [T, H] the residual stream
    TensorView spare;           // [T, H] room for it
    TensorView h;               // [T, H] what goes into a branch, then what comes out
    TensorView q;               // room for [T, Q, D] of any layer
    TensorView k;               // room for [T, K, D]
    TensorView v;               // room for [T, K, D]
    TensorView attended;        // room for [T, Q, D]
    TensorView gate;            // room for [T, I]
    TensorView up;              // room for [T, I]
    TensorView dense;           // [T, H]
    TensorView experts_in;      // [T, H]
    TensorView sparse;          // [T, H]
    TensorView router_experts;  // [T, top_k] I32
    TensorView router_weights;  // [T, top_k]
    TensorView ple;             // [T*L, P]
    TensorView ple_token;       // [T*L, P]
    TensorView ple_gate;        // [T, P]
    TensorView ple_layer;       // [T, P]
    TensorView last;            // [R, H]
    TensorView logits;          // [R, V]
  };

  bool has_ple() const { return config_.hidden_size_per_layer_input > 0; }
  void allocate_scratch();
  Activations activations(int64_t rows, int64_t logit_rows) const;
  /// A view of `shape` at the start of a scratch area.
  static TensorView scratch_view(TensorView room, const Shape& shape);
  /// The rows of one layer among [T*L, P].
  std::span<const int32_t> rows_of_layer(int32_t index, int64_t rows) const;
  void load();

  /// forward(), for an observer that sees the backend's own memory.
  std::optional<TensorView> run(const Step& step);
  /// The ops of a step. False if the observer gave it up.
  bool compute(const Step& step, const Activations& a);
  void per_layer_inputs(const Step& step, const Activations& a);
  /// The step as one op of the backend, with its logits if those of all rows are wanted; how far it
  /// went.
  Decoded whole_step(const Step& step, const Activations& a, ResidualStream& stream);
  /// The logits that are wanted.
  void lm_head(const Step& step, const Activations& a, ResidualStream& stream);
  FeedForward feed_forward_of(int32_t index) const;
  /// What layer `index` leaves pending, but for per-layer embeddings.
  PendingBranch result_of(int32_t index, const Activations& a) const;
  void decoder_layer(int32_t index, const Step& step, const Activations& a, ResidualStream& stream);
  /// Leaves its result in a.h.
  void attention(int32_t index, const Step& step, const Activations& a, ResidualStream& stream);
  /// Leaves its result pending.
  void feed_forward(int32_t index, const Step& step, const Activations& a, ResidualStream& stream);

  const Gemma4Config config_;
  Weights weights_;  // changed by load() only
  const Activation activation_;
  const StepLimits limits_;
  const float eps_;  // rms_norm_eps
  Backend& backend_;
  std::vector<RopeTable> rope_;       // by layer
  std::vector<int32_t> cache_layer_;  // by layer: the place of its KV among Step::kv
  Arena arena_;
  Activations scratch_;                         // for max_rows
  TensorView logits_;                           // [R, V], of the last step
  std::vector<int32_t> ids_;                    // the step's ids, placeholders replaced
  std::vector<std::vector<int32_t>> ple_rows_;  // by layer: the rows of its values among [T*L, P]
};

}  // namespace facet::gemma4
