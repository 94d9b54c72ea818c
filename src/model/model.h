#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "kernels/backend.h"
#include "kernels/batch.h"
#include "kernels/kv_view.h"
#include "tensor/tensor.h"

namespace facet {

/// Sees intermediate results of a step; views are valid during the call only. The step goes on with
/// what an observer leaves in a view, so one that writes can force a step onto other values.
class StepObserver {
 public:
  virtual ~StepObserver() = default;
  /// Asked before layer `layer`; false gives the step up there: a chunk of a long prompt may take
  /// many seconds.
  virtual bool goes_on(int32_t /*layer*/) { return true; }
  /// The residual stream before layer `layer`; layer == L is the stream after the final norm.  x
  /// [T, H].
  virtual void hidden(int32_t /*layer*/, TensorView /*x*/) {}
  /// The residual stream between the attention and the feed-forward of a layer.  x [T, H].
  virtual void after_attention(int32_t /*layer*/, TensorView /*x*/) {}
  /// The residual stream after the last layer, before the final norm.  x [T, H].
  virtual void after_layers(TensorView /*x*/) {}
  virtual void routing(int32_t /*layer*/, const Routing& /*routing*/) {}
  /// Per-layer inputs after the 2^-0.5 factor.  [T, L, P].
  virtual void per_layer_inputs(TensorView /*ple*/) {}
};

/// One step: what goes in, and which rows need logits.
struct Step {
  std::span<const int32_t> ids;  ///< [T], each in [0, vocab)
  const Batch& batch;
  std::span<const KvView> kv;           ///< one for each layer of each KV group, group after group
  std::span<const int32_t> logit_rows;  ///< [R], ascending, each once
  StepObserver* observer = nullptr;     ///< may be null
  bool top_only = false;  ///< the largest logits of each row will mostly do: Model::top_logits
  /// With top_only: how the next token of each row is drawn, for Model::drawn.  [R], or empty.
  std::span<const DrawSpec> draws = {};
};

/// A loaded model on a backend. One thread.
class Model {
 public:
  virtual ~Model() = default;

  virtual int32_t vocab_size() const = 0;
  virtual int32_t max_positions() const = 0;
  /// Rows and logit rows that one step may have.
  virtual int32_t max_rows() const = 0;
  virtual int32_t max_logit_rows() const = 0;
  /// The cache that steps need, for pages of `page_size` positions of `dtype`.
  virtual std::vector<KvGroupSpec> kv_groups(int32_t page_size, DType dtype) const = 0;

  /// Writes the rows' keys and values to the cache and returns the logits [R, V] in float32 after
  /// the final soft cap; they are valid until the next step. nullopt if the observer gave the step
  /// up: what it wrote to the cache is not whole.
  /// With Step::top_only the view is empty where top_logits() says what there is instead.
  virtual std::optional<TensorView> forward(const Step& step) = 0;
  /// The largest logits of each row of the last step, if forward() left the others on a device.
  virtual std::span<const TopLogits> top_logits() const { return {}; }
  /// What Backend::drawn says of the last step.
  virtual std::span<const int32_t> drawn() const { return {}; }
  /// All logits [V] of a row of the last step, valid until the next call or step. Only where
  /// top_logits() is not empty.
  virtual std::span<float> fetch_logits(int64_t /*row*/) { return {}; }
};

}  // namespace facet
