// How attention on tensor cores is cut into launches.

#include "kernels/cuda/attention_tiles.h"

#include <algorithm>

#include "base/check.h"

namespace facet::cuda {
namespace {

/// Rows are taken in passes whose partial results fit this.
constexpr int64_t kMostWorkspace = int64_t{256} << 20;
/// Blocks from which on a walk over the parts keeps the GPU busy.
constexpr int64_t kManyBlocks = 128;
/// Blocks of one part up to which all are under way at once, more or less.
constexpr int64_t kFewBlocks = 300;
/// Bytes of partial results that one block joins faster than a kernel begins.
constexpr int64_t kQuickJoin = int64_t{160} << 10;

int32_t group_of(const AttentionArgs& args) { return args.q_heads / args.kv.kv_heads; }

/// Parts that a tile of rows of the run sees at most.
int32_t parts_of(const AttentionArgs& args, const RowRun& run, int32_t tokens) {
  const auto all = static_cast<int32_t>(ceil_div(run.longest, kPart));
  if (args.window == 0) return all;
  return std::min(all, (args.window + tokens - 2) / kPart + 2);
}

int64_t row_bytes(const AttentionArgs& args, const Cut& how) {
  constexpr int64_t kStateBytes = 8;
  return int64_t{args.q_heads} * how.pieces *
         (args.kv.head_dim * int64_t{sizeof(float)} + kStateBytes);
}

Cut cut(const AttentionArgs& args, const RowRun& run) {
  Cut how;
  const int32_t walk_tokens = std::max(1, walk_pairs(args.kv.head_dim) / group_of(args));
  how.walk = run.one_sequence && ceil_div(run.rows, walk_tokens) * args.kv.kv_heads >= kManyBlocks;
  if (how.walk) {
    how.tokens = walk_tokens;
    return how;
  }
  how.tokens = run.one_sequence ? std::max(1, 16 / group_of(args)) : 1;
  const int32_t parts = parts_of(args, run, how.tokens);
  const int64_t tiles = ceil_div(run.rows, how.tokens) * args.kv.kv_heads;
  how.piece_parts = tiles * parts <= kFewBlocks ? 1 : kSpanParts;
  how.pieces = how.piece_parts == 1
                   ? parts
                   : std::min((parts + kSpanParts - 2) / kSpanParts + 1,
                              static_cast<int32_t>(ceil_div(run.longest, kPart * kSpanParts)));
  how.join_apart = int64_t{how.pieces} * how.tokens * group_of(args) * args.kv.head_dim *
                       int64_t{sizeof(float)} >
                   kQuickJoin;
  const int64_t fitting =
      std::min(kMostWorkspace / row_bytes(args, how), kMostArrivals / args.kv.kv_heads);
  how.pass_rows = std::min(std::max<int64_t>(1, fitting / how.tokens) * how.tokens,
                           round_up(run.rows, how.tokens));
  return how;
}

}  // namespace

bool tiles_fit(const AttentionArgs& args) {
  const int32_t group = group_of(args);
  return (args.kv.dtype == DType::kBF16 || args.kv.dtype == DType::kF8E4M3) &&
         (args.kv.head_dim == 256 || args.kv.head_dim == 512) && group <= 16 &&
         (group & (group - 1)) == 0;
}

int64_t attention_workspace_bytes(const AttentionArgs& args, const RowRun& run) {
  const Cut how = cut(args, run);
  return how.pass_rows * row_bytes(args, how);
}

void attention_tiles(cudaStream_t stream,
                     const AttentionArgs& args,
                     const RowRun& run,
                     const AttentionMemory& memory,
                     const Unprepared& unprepared) {
  if (run.rows == 0) return;
  CHECK(unprepared.q_norm == nullptr || !run.one_sequence, "a prompt that is not prepared");
  const Cut how = cut(args, run);
  if (args.kv.dtype == DType::kBF16) {
    run_tiles<DType::kBF16>(stream, args, run, how, memory, unprepared);
  } else {
    run_tiles<DType::kF8E4M3>(stream, args, run, how, memory, unprepared);
  }
}

}  // namespace facet::cuda
