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
/// Blocks of a cluster, with one part each or with more.
constexpr int32_t kMostCluster = 16;
constexpr int32_t kMostClusterOfSpans = 8;
/// Blocks up to which all clusters are under way at once, more or less: beyond, those of a cluster
/// that have nothing to do are in others' way.
constexpr int64_t kOneWave = 264;
/// Blocks of each multiprocessor, one after the other, from which on half as many, twice as long
/// ones begin less often and still end together. (Heads of 512: there is room for one at a time.)
constexpr int64_t kManyRounds = 10;
/// Blocks that a tile's pieces are dealt out to evenly enough if there is one for each
/// multiprocessor.
constexpr int64_t kEnoughBlocks = 8;

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

/// Rows of a pass: partial results of all their pieces fit.
int64_t pass_rows(const AttentionArgs& args, const RowRun& run, const Cut& how) {
  const int64_t fitting =
      std::min(kMostWorkspace / row_bytes(args, how), kMostArrivals / (args.q_heads / how.heads));
  return std::min(std::max<int64_t>(1, fitting / how.tokens) * how.tokens,
                  round_up(run.rows, how.tokens));
}

int32_t pieces_of(const RowRun& run, int32_t parts, int32_t piece_parts) {
  if (piece_parts == 1) return parts;
  return std::min((parts + piece_parts - 2) / piece_parts + 1,
                  static_cast<int32_t>(ceil_div(run.longest, int64_t{kPart} * piece_parts)));
}

Cut cut_prompt(const AttentionArgs& args, const RowRun& run) {
  Cut how;
  const int32_t walk_tokens = std::max(1, walk_pairs(args.kv.head_dim) / group_of(args));
  how.walk = ceil_div(run.rows, walk_tokens) * args.kv.kv_heads >= kManyBlocks;
  if (how.walk) {
    how.tokens = walk_tokens;
    return how;
  }
  how.tokens = std::max(1, 16 / group_of(args));
  const int32_t parts = parts_of(args, run, how.tokens);
  const int64_t tiles = ceil_div(run.rows, how.tokens) * args.kv.kv_heads;
  how.piece_parts = tiles * parts <= kFewBlocks ? 1 : kSpanParts;
  how.pieces = pieces_of(run, parts, how.piece_parts);
  how.join_apart = true;
  how.pass_rows = pass_rows(args, run, how);
  return how;
}

Cut cut_rows(const AttentionArgs& args, const RowRun& run) {
  Cut how;
  how.heads = std::min(group_of(args), args.window > 0 ? 4 : 8);
  const int64_t tiles = run.rows * (args.q_heads / how.heads);
  const int32_t parts = parts_of(args, run, 1);
  how.piece_parts = tiles * parts <= kFewBlocks ? 1 : kSpanParts;
  if (args.window > 0 && args.kv.head_dim == 256 && has_clusters()) {
    const auto on_ring = static_cast<int32_t>(
        ceil_div(std::min(args.window, run.longest), int64_t{kPart} * how.piece_parts));
    how.cluster = on_ring <= (how.piece_parts == 1 ? kMostCluster : kMostClusterOfSpans) &&
                  tiles * on_ring <= kOneWave;
    how.blocks = on_ring;
  }
  if (how.cluster) {
    how.pass_rows = run.rows;
    return how;
  }
  how.pieces = pieces_of(run, parts, how.piece_parts);
  how.blocks = how.pieces;
  const int64_t fitting = multiprocessors() / tiles;
  if (fitting >= kEnoughBlocks) how.blocks = std::min(how.pieces, static_cast<int32_t>(fitting));
  if (args.kv.head_dim == 512 && tiles * how.pieces > kManyRounds * multiprocessors())
    how.blocks = static_cast<int32_t>(ceil_div(how.pieces, 2));
  how.join_apart = tiles * how.blocks > multiprocessors();
  how.pass_rows = pass_rows(args, run, how);
  return how;
}

Cut cut(const AttentionArgs& args, const RowRun& run) {
  return run.one_sequence ? cut_prompt(args, run) : cut_rows(args, run);
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
  return how.cluster ? 0 : how.pass_rows * row_bytes(args, how);
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
