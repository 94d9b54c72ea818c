#pragma once

#include <cstdint>

#include "kernels/cuda/device.h"
#include "kernels/top_logits.h"

namespace facet::cuda {

/// At least this many of the largest logits of a row are found, if there are as many: for top_k of
/// 64 and more, and for ids that may not be sampled.
inline constexpr int32_t kTopWanted = 128;
inline constexpr int32_t kTopRoom = 511;

/// What was found of one row; `entries` in no order.
struct TopRow {
  int32_t count = 0;  ///< logits that are not below the threshold; more than kTopRoom: too many
  int32_t finite = 0;
  TopLogits::Entry entries[kTopRoom];
};

/// Bytes of workspace that select_top() wants.
int64_t top_workspace_bytes(int64_t rows);

/// out[r] = the logits of row r that are not below a threshold, which at least kTopWanted of them
/// reach: the least of the kTopWanted largest maxima over 512 groups of ids. Two launches, bound by
/// one read of the logits, which are in L2 where a product just wrote them.  logits [rows, width].
void select_top(cudaStream_t stream,
                TopRow* out,
                const float* logits,
                int64_t rows,
                int64_t width,
                std::byte* workspace);

}  // namespace facet::cuda
