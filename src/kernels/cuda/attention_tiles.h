#pragma once

// What attention_tiles.cu chooses between; one source for each cache's dtype.

#include "kernels/cuda/attention.h"

namespace facet::cuda {

/// How a run is cut: tiles of `tokens` rows; walks, or pieces of `piece_parts` parts in passes of
/// `pass_rows`.
struct Cut {
  bool walk = false;
  int32_t tokens = 1;
  int32_t heads = 1;  // of a single row's block
  int32_t piece_parts = 1;
  int32_t pieces = 0;       // of a tile, at most
  int32_t blocks = 0;       // that a single row's are dealt out to
  bool cluster = false;     // pieces of a single row are joined in their cluster,
  bool join_apart = false;  // or by a kernel of its own, or else by the blocks in the end
  int64_t pass_rows = 0;
};

template <DType kType>
void run_tiles(cudaStream_t stream,
               const AttentionArgs& args,
               const RowRun& run,
               const Cut& how,
               const AttentionMemory& memory,
               const Unprepared& unprepared);

/// Pairs of a tile of the walking kernels.
constexpr int32_t walk_pairs(int32_t head_dim) { return head_dim == 256 ? 64 : 32; }

}  // namespace facet::cuda
