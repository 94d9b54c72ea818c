#pragma once

// What linear.cu chooses among. Each takes BandSource and OutScale of one matrix.

#include <cstdint>

#include "kernels/activation.h"
#include "kernels/cuda/bands.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/residual.h"

namespace facet::cuda {

struct LinearBands {
  BandSource w;
  OutScale scale;
  float* out = nullptr;      ///< [tokens, rows]
  const float* x = nullptr;  ///< [tokens, cols]
  int32_t rows = 0;
  int32_t cols = 0;
  int32_t tokens = 0;
  int64_t weight_bytes = 0;  ///< for Traffic
};

/// What a product over all of it moves, x being of `value_bytes` bytes each.
inline Traffic traffic_of(const LinearBands& args, int64_t value_bytes) {
  return {args.weight_bytes +
          args.tokens * (args.cols * value_bytes + args.rows * int64_t{sizeof(float)})};
}

/// One matrix of a streamed product, and where its results go.
struct StreamPart {
  BandSource w;
  OutScale scale;
  OutScale upper_scale;  ///< of rows of w.upper, where they are another matrix
  float* out = nullptr;  ///< [tokens, rows]
  int32_t rows = 0;
  int64_t weight_bytes = 0;  ///< for Traffic
};

/// A router whose logits are computed beside the product by `blocks` CTAs of their own; no blocks:
/// none.
struct StreamRouter {
  const std::byte* proj = nullptr;  ///< [count, cols] BF16
  const float* scale = nullptr;     ///< [cols]
  float* logits = nullptr;          ///< [tokens, count]
  NormOut sparse;                   ///< what the experts will read
  int32_t count = 0;
  int32_t blocks = 0;
  /// Each of these CTAs adds one once its logits and its part of `sparse` are there; null: none.
  int32_t* routed = nullptr;
};
inline constexpr int32_t kRouterExperts =
    4;  ///< of a CTA: shared memory would be the bound of more

/// Products of one x with several matrices of one format, streamed by one launch.
struct StreamWork {
  static constexpr int kMostParts = 3;
  StreamPart parts[kMostParts];
  int32_t count = 0;      ///< of parts
  int32_t all_bands = 0;  ///< of all parts
  int32_t cols = 0;
  int32_t tokens = 0;
  const float* x = nullptr;     ///< [tokens, cols]; null: x is the norm of the stream
  ResidualArgs stream;          ///< settled by every CTA for itself; the first one writes x_out
  const float* norm = nullptr;  ///< [cols]
  /// Bands are 8 rows of a gate and 8 of its up: out = act(gate) * up.
  bool gated = false;
  ActivationFunction function = ActivationFunction::kSilu;
  StreamRouter router;  ///< with a norm only

  void add(const StreamPart& part) {
    parts[count++] = part;
    all_bands += part.w.bands;
  }
  int32_t steps() const { return parts[0].w.steps; }
};

/// Weights, x (or the stream and what joins it), results, and a router's projection.
inline Traffic traffic_of(const StreamWork& work) {
  constexpr int64_t kValue = sizeof(float);
  int64_t bytes = int64_t{work.router.blocks > 0 ? work.router.count : 0} * work.cols * 2;
  bytes += int64_t{work.tokens} * work.cols * kValue;
  for (int i = 0; i < work.count; ++i)
    bytes += work.parts[i].weight_bytes + int64_t{work.tokens} * work.parts[i].rows * kValue;
  return {bytes};
}

/// Whether x of that many tokens finds room in linear_stream's shared memory.
template <class F>
bool stream_fits(const StreamWork& work);

/// Whether linear_stream may take the norm upon itself: each CTA does it anew, which is worth it
/// for few tokens.
inline constexpr int32_t kNormedTokens = 2;
inline constexpr int32_t kNormedCols = 6 * 512;

/// At most 16 tokens, kNormedTokens of kNormedCols with a norm. `groups`: bands that a CTA has
/// under way at once (1, 2, 4; 0: chosen here).
template <class F>
void linear_stream(cudaStream_t stream, Overlap overlap, const StreamWork& work, int groups = 0);

/// Any number of tokens; `packed` takes the rounded x: tokens * steps * 128 bytes.
template <class F>
void linear_tiled(cudaStream_t stream, Overlap overlap, const LinearBands& args, uint8_t* packed);

/// Whether linear_wide() takes so many tokens, on this device. x must be given then, without norm
/// or router.
bool wide_fits(int32_t tokens);
/// `work` in one launch, x being rounded in one before.
template <class F>
void linear_wide(cudaStream_t stream, Overlap overlap, const StreamWork& work, uint8_t* packed);

}  // namespace facet::cuda
