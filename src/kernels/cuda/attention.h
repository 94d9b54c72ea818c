#pragma once

#include <cstdint>

#include "kernels/cuda/launch.h"
#include "kernels/cuda/paged_kv.h"
#include "kernels/gpu_limits.h"

namespace facet::cuda {

/// What turns the rows' projections into q, k and v: see Backend::prepare_attention.
struct Unprepared {
  const float* q_norm = nullptr;       // [head_dim]; null: q, and the cache, are ready
  const float* k = nullptr;            // [rows, kv_heads, head_dim], or null: nothing is stored
  const float* v = nullptr;            // the same; may be k
  const float* k_norm = nullptr;       // [head_dim]
  const float* frequencies = nullptr;  // [angles]
  int32_t angles = 0;
  float eps = 0;
};

struct AttentionArgs {
  float* out = nullptr;      // [rows, q_heads, head_dim]
  const float* q = nullptr;  // [rows, q_heads, head_dim]
  PagedKv kv;
  int32_t q_heads = 0;
  int32_t window = 0;  // 0: none
  int64_t rows = 0;
  int64_t positions = 0;  // that the rows see, of each sequence once: for Traffic
  Overlap overlap = Overlap::kNo;
};

/// Bytes of q and out of `rows` rows, and of K and V of `positions` positions.
inline int64_t bytes_of(const AttentionArgs& args, int64_t rows, int64_t positions) {
  const int64_t values = rows * args.q_heads * args.kv.head_dim;
  const int64_t kept = positions * args.kv.kv_heads * args.kv.head_dim;
  return 2 * values * int64_t{sizeof(float)} + 2 * kept * bits_of(args.kv.dtype) / 8;
}

/// Backend::attention in float32 for heads of up to kMostHeadDim values and any cache dtype: one
/// block for each row and head, for the cases that attention_tiles does not take.
void attention_simple(cudaStream_t stream, const AttentionArgs& args);

/// Positions of one part, and parts of one span. A row's positions are cut into parts [64 p, 64 p +
/// 64) with a softmax each; the parts of a span [4 s, 4 s + 4) are joined from the first to the
/// last, and so are the spans. It does not matter then which block computes which parts, nor which
/// rows share a tile.
inline constexpr int32_t kPart = 64;
inline constexpr int32_t kSpanParts = 4;

/// Rows that share a launch of the tile kernels: of one sequence at consecutive positions, or one
/// row of each of several sequences.
struct RowRun {
  int64_t first_row = 0;
  int64_t rows = 0;
  bool one_sequence = false;
  int32_t longest = 0;    ///< a bound of the rows' positions, plus one
  int64_t positions = 0;  ///< as in AttentionArgs
};

/// Whether the tile kernels take this: a cache of BF16 or FP8, heads of 256 or 512, groups of up to
/// 16 query heads (a power of two) on a KV head.
bool tiles_fit(const AttentionArgs& args);

/// Memory that attention_tiles needs, one place for all calls in turn.
struct AttentionMemory {
  std::byte* partials = nullptr;  ///< attention_workspace_bytes(…)
  int32_t* arrivals = nullptr;    ///< kMostArrivals zeros, which the kernels leave as zeros
};
inline constexpr int64_t kMostArrivals = int64_t{1} << 16;

int64_t attention_workspace_bytes(const AttentionArgs& args, const RowRun& run);

/// Backend::attention on tensor cores for the rows of a run: q enters as three BF16 terms, which
/// hold all of a float32, the softmax's weights as two, K and V as BF16, which holds every E4M3. A
/// prompt of many rows: blocks of 32 or 64 (row, head) pairs that walk the parts; of few, a block
/// for each part or span and a kernel that joins. Single rows: blocks with some parts or spans each
/// that join them among themselves where all are under way at once, else that kernel does. All give
/// the same bits. Decode is bound by the bytes of K and V.
///
/// `unprepared` is for runs of one row of each sequence: Backend::prepare_attention is then done
/// by the blocks that want its results, with the same bits, and q is left as it is.
void attention_tiles(cudaStream_t stream,
                     const AttentionArgs& args,
                     const RowRun& run,
                     const AttentionMemory& memory,
                     const Unprepared& unprepared = {});

}  // namespace facet::cuda
