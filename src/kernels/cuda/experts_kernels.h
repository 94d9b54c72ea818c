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
};

constexpr int32_t max_items(int32_t experts, int32_t pairs, int32_t item_tokens) {
  return (experts < pairs ? experts : pairs) + pairs / item_tokens;
}

/// Shared memory that experts_stream() asks for, at least.
template <class F>
int64_t experts_stream_shared_bytes(const ExpertsWork& work);
template <class F>
void experts_stream(cudaStream_t stream, Overlap overlap, const ExpertsWork& work);
template <class F>
void experts_tiled(cudaStream_t stream, Overlap overlap, const ExpertsWork& work);

inline constexpr int32_t kFewTokens = 16;  ///< item_tokens of the tiled kernels
inline constexpr int32_t kManyTokens = 80;

}  // namespace facet::cuda
