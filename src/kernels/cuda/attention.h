#pragma once

#include <cstdint>

#include "kernels/cuda/paged_kv.h"

namespace facet::cuda {

struct AttentionArgs {
  float* out = nullptr;      // [rows, q_heads, head_dim]
  const float* q = nullptr;  // [rows, q_heads, head_dim]
  PagedKv kv;
  int32_t q_heads = 0;
  int32_t window = 0;  // 0: none
  int64_t rows = 0;
  int64_t positions = 0;  // that the rows see, of each sequence once: for Traffic
};

/// Bytes of q and out of `rows` rows, and of K and V of `positions` positions.
inline int64_t bytes_of(const AttentionArgs& args, int64_t rows, int64_t positions) {
  const int64_t values = rows * args.q_heads * args.kv.head_dim;
  const int64_t kept = positions * args.kv.kv_heads * args.kv.head_dim;
  return 2 * values * int64_t{sizeof(float)} + 2 * kept * bits_of(args.kv.dtype) / 8;
}

/// Backend::attention in float32 for heads of up to kMostHeadDim values and any cache dtype: one
/// block for each row and head, for the cases that attention_tiles does not take.
inline constexpr int32_t kMostHeadDim = 512;
void attention_simple(cudaStream_t stream, const AttentionArgs& args);

/// Positions of one part. What a row gets is made of parts [64 p, 64 p + 64) of its positions, each
/// with a softmax of its own, joined from the first to the last: so it does not matter which block
/// computes which parts, nor which rows share a tile.
inline constexpr int32_t kPart = 64;

/// Rows that share a launch of the tile kernels: of one sequence at consecutive positions, or one
/// row of each of several sequences.
struct RowRun {
  int64_t first_row = 0;
  int64_t rows = 0;
  bool one_sequence = false;
  int32_t longest = 0;    ///< a bound of the rows' positions, plus one
  int64_t positions = 0;  ///< as in AttentionArgs
};

/// Whether the tile kernels take this: a BF16 cache, heads of 256 or 512, groups of up to 16 query
/// heads (a power of two) on a KV head.
bool tiles_fit(const AttentionArgs& args);

/// Bytes of workspace that attention_tiles wants for a run.
int64_t attention_workspace_bytes(const AttentionArgs& args, const RowRun& run);

/// Backend::attention on tensor cores for the rows of a run: q enters as three BF16 terms, which
/// hold all of a float32, the softmax's weights as two. Few rows: a block for each part and KV
/// head, then a join. Many: blocks of 32 or 64 (row, head) pairs that walk the parts. Both give the
/// same bits. Decode is bound by the bytes of K and V.
void attention_tiles(cudaStream_t stream,
                     const AttentionArgs& args,
                     const RowRun& run,
                     std::byte* workspace);

}  // namespace facet::cuda
