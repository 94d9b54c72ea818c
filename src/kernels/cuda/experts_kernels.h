#pragma once

// What experts.cpp chooses between.

#include "kernels/cuda/experts.h"

namespace facet::cuda {

/// A call with its workspace carved up. A "pair" is (row, choice): number row * top_k + j.
struct ExpertsWork {
  ExpertsLayer layer;
  float* out = nullptr;
  const float* x = nullptr;
  const int32_t* chosen = nullptr;
  const float* weights = nullptr;
  ExpertsChoice choice = {};
  int32_t* arrivals = nullptr;  ///< as ExpertsCall::arrivals
  int32_t rows = 0;
  int32_t top_k = 0;
  int32_t hidden_steps = 0;
  int32_t width_steps = 0;

  uint8_t* inner = nullptr;  ///< [pairs, width_steps * 64] BF16 in the format's order
  // Of many rows only:
  uint8_t* packed = nullptr;  ///< [rows, hidden_steps * 64] BF16 in the format's order
  float* parts = nullptr;     ///< [pairs, H]: what each expert made of its rows
  int32_t* sorted = nullptr;  ///< [pairs]: pairs by expert
  int32_t* items = nullptr;  ///< [1 + 3 * max_items]: how many, then expert, first of sorted, count
  int32_t max_items = 0;
  int32_t item_tokens = 0;  ///< at most this many pairs in an item
  bool wide = false;        ///< x and inner in wide order (wide.cuh)
};

/// Bytes of one of an expert's matrices, as read here.
inline int64_t expert_matrix_bytes(const ExpertsLayer& layer) {
  const int64_t values = int64_t{layer.width} * layer.hidden;
  return layer.format == WeightFormat::kNvfp4 ? values / 2 + values / 16 : 2 * values;
}

/// Values that go into gate and up, and out of down, of `value_bytes` each, and the weights.
inline Traffic gate_up_traffic(const ExpertsWork& work, int64_t value_bytes) {
  const int64_t inner = int64_t{work.rows} * work.top_k * work.layer.width;
  return {int64_t{work.rows} * work.layer.hidden * value_bytes + inner * 2,
          2 * expert_matrix_bytes(work.layer)};
}
inline Traffic down_traffic(const ExpertsWork& work, int64_t out_rows) {
  const int64_t inner = int64_t{work.rows} * work.top_k * work.layer.width;
  return {inner * 2 + out_rows * work.layer.hidden * int64_t{sizeof(float)},
          expert_matrix_bytes(work.layer)};
}

constexpr int32_t max_items(int32_t experts, int32_t pairs, int32_t item_tokens) {
  return (experts < pairs ? experts : pairs) + pairs / item_tokens;
}

/// Whether there is shared memory for `beside` in a launch of experts_stream().
bool fits_beside(const StreamWork& beside);
/// Calls that experts_stream_fits(). `beside`: as ExpertsCall::beside; fits_beside().
template <class F>
void experts_stream(cudaStream_t stream,
                    Overlap overlap,
                    const ExpertsWork& work,
                    const std::optional<StreamWork>& beside);
template <class F>
void experts_tiled(cudaStream_t stream, Overlap overlap, const ExpertsWork& work);

inline constexpr int32_t kFewTokens = 16;  ///< item_tokens of the tiled kernels
inline constexpr int32_t kManyTokens = 80;

}  // namespace facet::cuda
