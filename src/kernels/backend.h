#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/activation.h"
#include "kernels/batch.h"
#include "kernels/draw_spec.h"
#include "kernels/expert_weights.h"
#include "kernels/kv_view.h"
#include "kernels/layer_operands.h"
#include "kernels/rope.h"
#include "kernels/top_logits.h"
#include "quant/weight_matrix.h"
#include "tensor/buffer.h"
#include "tensor/tensor.h"

namespace facet {

/// How far decode() came.
enum class Decoded { kNothing, kLayers, kLogits };

/// What a device can do at best, as measured on it.
struct DevicePeaks {
  double read_bytes_per_second = 0;  ///< plain reads of memory much larger than the caches
  double flops_per_second = 0;       ///< float32 multiply-adds, two operations each
};

/// The integers of one step. Its ops take these spans (of ids, positions, …) and no copies of them.
struct StepInputs {
  std::span<const int32_t> ids = {};         ///< [T], what embed() gets
  std::span<const int32_t> logit_rows = {};  ///< [R], what gather_rows() gets
  const Batch& batch;
  std::span<const KvView> kv = {};
  bool watched = false;     ///< somebody looks at results between ops
  bool top_logits = false;  ///< select_top() ends the ops: its result is wanted, not the logits
  /// With top_logits: how the next token of each row is drawn.  [R], or empty.
  std::span<const DrawSpec> draws = {};
};

/// What a model's ops read and no step changes. Everything stays where it is on the host, and as it
/// is, while steps run.
struct ModelOperands {
  std::vector<WeightMatrix*> matrices = {};              ///< not those of experts; none is empty
  std::vector<ExpertWeights*> experts = {};              ///< by layer
  std::vector<std::span<const float>> vectors = {};      ///< norm weights, scales, frequencies
  std::vector<std::span<const int32_t>> row_lists = {};  ///< that gather_rows() gets
  Activation activation = {};                            ///< of the experts

  /// Called with bytes done and bytes in all.
  std::function<void(int64_t done, int64_t total)> on_progress = {};
};

/// What all launches of one kernel over as many bytes took.
struct KernelTime {
  std::string kernel;
  int64_t calls = 0;
  int64_t bytes = 0;  ///< weights, keys, values and activations, each once where it is needed
  int64_t expert_bytes = 0;  ///< beside those, for each expert that a call's rows chose
  double microseconds = 0;   ///< the sum of medians
};

/// What some steps were made of.
struct KernelProfile {
  std::vector<KernelTime> kernels;  ///< in the order in which they came
  double empty_launch_us = 0;       ///< what a kernel that does nothing takes by the same measure
};

/// What runs a kind of op, and why: for `info` and the log.
struct KernelChoice {
  std::string kernel;
  std::string why;
};

/// What attention() of a layer is over.
struct AttentionShape {
  DType kv = DType::kBF16;  ///< of the cache
  int32_t head_dim = 0;
  int32_t q_heads = 0;
  int32_t kv_heads = 0;
};

struct StepQuery;  // step_choice.h

/// Says which kernels run what, by formats and shapes alone: the views may point anywhere.
class KernelChooser {
 public:
  virtual ~KernelChooser() = default;
  /// Throws Error{kUsage} where what the user asked for cannot be.
  virtual KernelChoice linear_kernel(const WeightMatrix& matrix) const = 0;
  virtual KernelChoice experts_kernel(const ExpertWeights& experts,
                                      const Activation& activation) const = 0;
  virtual KernelChoice attention_kernel(const AttentionShape& shape) const = 0;
  /// How a decode step of such a model is launched; nullopt where there are no launches.
  virtual std::optional<KernelChoice> step_kernel(const StepQuery& /*query*/) const {
    return std::nullopt;
  }

 protected:
  KernelChooser() = default;
  KernelChooser(const KernelChooser&) = default;
  KernelChooser& operator=(const KernelChooser&) = default;
};

/// Every op the model may call. Activations are float32 tensors of the backend's device, row-major,
/// contiguous. Sums are in float32 at least.
///
/// One promise holds for all ops: what a row gets does not depend on which other rows share the
/// call, bit for bit. So any chunking of a prompt and any neighbours in a batch give the same
/// result.
///
/// Shape letters: T rows, H hidden, Q query heads, K KV heads, D head size, F feed-forward width, E
/// experts.
class Backend : public KernelChooser {
 public:
  /// "ref", "cpu (AVX2, 2 threads)": for logs.
  virtual std::string_view describe() const = 0;
  virtual const Buffer::Allocator& allocator() const = 0;
  /// Measures, on the threads that ops run on; takes seconds and a buffer of 1 GiB. nullopt where
  /// speed is not the point.
  virtual std::optional<DevicePeaks> measure_peaks() { return std::nullopt; }

  // Here: a backend that has one kernel for everything.
  KernelChoice linear_kernel(const WeightMatrix& matrix) const override;
  KernelChoice experts_kernel(const ExpertWeights& experts,
                              const Activation& activation) const override;
  KernelChoice attention_kernel(const AttentionShape& shape) const override;

  // ---- around ops ----

  /// Brings a model's weights to where ops read them, once, before its first step. Matrices then
  /// view that memory, which is the backend's; vectors and row lists are known by where they stand
  /// on the host. A backend on the host reads everything in place. Throws Error{kOutOfMemory}.
  virtual void load(const ModelOperands& /*operands*/) {}
  /// Bytes of the device's memory that load() would take at most at a time; 0 on the host.
  virtual int64_t load_bytes(const ModelOperands& /*operands*/) const { return 0; }
  /// Begins a step. False if the backend repeats by itself what it recorded of a step of this make,
  /// so that the ops need not be called.
  virtual bool begin_step(const StepInputs& /*inputs*/) { return true; }
  /// Waits for the ops of the step. Returns `result` in memory of the host, valid until the next
  /// step begins.
  virtual TensorView end_step(TensorView result) { return result; }
  /// Of the last step, what select_top() found of each row; the result of end_step() was then left
  /// where it is, and end_step() returned an empty view. Empty where the host reads logits in
  /// place.
  virtual std::span<const TopLogits> top_logits() const { return {}; }
  /// Of the last step, the token that was drawn for each row, -1 where the host has to; then
  /// top_logits() is whole, else its rows may have no entries. Empty: nothing was to be drawn, or
  /// this backend draws nothing.
  virtual std::span<const int32_t> drawn() const { return {}; }
  /// Rows of the last step's result in memory of the host, valid until the next call or step.
  virtual TensorView fetch(TensorView rows) { return rows; }
  /// Calls `steps`, which runs steps whose like has been run before, and takes those apart that
  /// nobody watches; they are done some times over, with the same results. nullopt, and nothing is
  /// called, where that cannot be done.
  virtual std::optional<KernelProfile> profile(const std::function<void()>& /*steps*/) {
    return std::nullopt;
  }

  // ---- primitives ----

  /// out[t] = table[ids[t]] * scale.  out [T, H]; table [V, H] of plain values.
  virtual void embed(TensorView out,
                     const WeightMatrix& table,
                     std::span<const int32_t> ids,
                     float scale) = 0;

  /// out = x * (mean(x²) + eps)^(-1/2) * weight, over the last axis, N wide.  out, x: [.., N], may
  /// alias. weight: [N], or empty for none.  HF Gemma4RMSNorm.
  virtual void rms_norm(TensorView out, TensorView x, std::span<const float> weight, float eps) = 0;

  /// out = x · wᵀ.  x [T, in], w [out, in] in any format, out [T, out]; no aliasing. Weights enter
  /// exactly, as dequantize_row gives them.
  virtual void linear(TensorView out, TensorView x, const WeightMatrix& w) = 0;

  /// Rotates pairs (i, i + D/2) of every head.  x [T, heads, D] in place; positions [T].
  virtual void rope(TensorView x, std::span<const int32_t> positions, const RopeTable& table) = 0;

  /// Writes the rows' K and V into the cache at their positions.  k, v: [T, K, D].
  virtual void store_kv(const KvView& kv, TensorView k, TensorView v, const Batch& batch) = 0;

  /// softmax(q · kᵀ) · v over the cached positions each row may see: j <= position, and with a
  /// window j > position - window (window 0: none). Scores are not scaled.  out, q: [T, Q, D]; Q a
  /// multiple of K.
  virtual void attention(
      TensorView out, TensorView q, const KvView& kv, int32_t window, const Batch& batch) = 0;

  /// Gated: out = f(gate) * up. Plain: out = f(up), gate is empty.  All [T, F]; out may alias
  /// either.
  virtual void activate(TensorView out,
                        TensorView gate,
                        TensorView up,
                        const Activation& activation) = 0;

  /// z = rms(x) * scale * H^(-1/2); l = proj · z; softmax over all E; the top_k largest,
  /// renormalised, times per_expert_scale.  x [T, H].  HF Gemma4TextRouter.
  virtual void route(const Routing& routing,
                     TensorView x,
                     const RouterWeightsView& router,
                     float eps) = 0;

  /// out[t] = sum over the row's experts of weight * down · act(gate · x[t], up · x[t]).  out, x:
  /// [T, H], no aliasing. Summed in the order of `routing`.
  virtual void experts(TensorView out,
                       TensorView x,
                       const ExpertWeights& weights,
                       const Routing& routing,
                       const Activation& activation) = 0;

  /// x += y.  Same shape.
  virtual void add(TensorView x, TensorView y) = 0;
  /// x *= factor.
  virtual void scale(TensorView x, float factor) = 0;
  /// x = cap * tanh(x / cap).
  virtual void soft_cap(TensorView x, float cap) = 0;
  /// out[i] = x[rows[i]].  x [T, N], out [R, N].
  virtual void gather_rows(TensorView out, TensorView x, std::span<const int32_t> rows) = 0;
  /// Finds the largest of each row for top_logits(), and draws from them.  logits [R, V].
  virtual void select_top(TensorView /*logits*/) {}

  // ---- fused ops: the bodies below are made of primitives; a backend overrides one only for speed
  // ----

  /// q = rope(norm(q) * q_norm), k = rope(norm(k) * k_norm), v = norm(v), all per head, at the
  /// positions of `batch`; k and v then go to the cache. q is overwritten; k and v are lost.
  virtual void prepare_attention(const AttentionRows& rows,
                                 const KvView& kv,
                                 const RopeTable& rope,
                                 const Batch& batch,
                                 float eps);

  /// Adds what is pending to the stream, nothing is pending then. Branches are overwritten.
  virtual void settle(ResidualStream& stream, float eps);

  /// Settles the stream; out = norm(x) * weight.  out: [T, H].
  virtual void norm_stream(ResidualStream& stream,
                           TensorView out,
                           std::span<const float> weight,
                           float eps);

  /// Settles the stream; out = (norm(x) * weight) · wᵀ for each of the products.  h: [T, H], room.
  virtual void project(ResidualStream& stream,
                       TensorView h,
                       std::span<const float> weight,
                       std::span<const Projection> products,
                       float eps);

  /// Settles the stream; inner = act(gate · h, up · h) of h = norm(x) * norm. With experts also
  /// routing = route(x), unless watched maybe by the next op; experts_in = norm(x) * experts_norm.
  virtual void enter_feed_forward(ResidualStream& stream,
                                  const FeedForwardRows& rows,
                                  const FeedForward& layer,
                                  float eps);

  /// dense = down · inner; with experts sparse = experts(experts_in, routing).
  virtual void leave_feed_forward(const FeedForwardRows& rows, const FeedForward& layer);

  /// prepare_attention(), then out = attention() of what it gave.  out: as q; q, k and v are lost.
  virtual void attend(TensorView out,
                      const AttentionRows& rows,
                      const KvView& kv,
                      const RopeTable& rope,
                      int32_t window,
                      const Batch& batch,
                      float eps);

  /// Rows of a step up to which decode() is worth asking; 0: never.
  virtual int64_t most_whole_rows() const { return 0; }
  /// A step of which every sequence has one row, nothing being pending: embed(), and for each layer
  /// what project(), attend(), linear(), enter_feed_forward() and leave_feed_forward() give.
  /// kLayers: the last layer's result is pending then. kLogits: the head's norm_stream(), linear()
  /// and soft_cap() are done too, and the stream is lost. kNothing, and nothing is done, if this
  /// backend has no better way than those ops.
  virtual Decoded decode(ResidualStream& /*stream*/,
                         const Decoder& /*decoder*/,
                         const Batch& /*batch*/) {
    return Decoded::kNothing;
  }

  /// x = (x + norm(h) * weight) * factor.  x, h: [T, H]; h is overwritten.
  virtual void add_rms_norm(
      TensorView x, TensorView h, std::span<const float> weight, float eps, float factor);

  /// dense = norm(dense) * dense_weight + norm(sparse) * sparse_weight.  All [T, H]; sparse is
  /// overwritten.
  virtual void join_branches(TensorView dense,
                             TensorView sparse,
                             std::span<const float> dense_weight,
                             std::span<const float> sparse_weight,
                             float eps);

 protected:
  Backend() = default;
  Backend(const Backend&) = default;
  Backend& operator=(const Backend&) = default;
};

}  // namespace facet
