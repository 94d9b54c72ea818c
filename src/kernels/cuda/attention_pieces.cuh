#pragma once

// Attention of a prompt's few rows: a block for each piece of a tile's positions and KV head, whose
// results join_kernel joins.

#include "kernels/cuda/attention_join.cuh"
#include "kernels/cuda/attention_tiles.cuh"

namespace facet::cuda {

/// A block has a piece of kParts parts (x), a KV head (y) and a tile of rows (z).
template <typename Config, int kParts>
__global__ void __launch_bounds__(Config::kThreads)
    piece_kernel(const AttentionArgs args, const RowRun run, int32_t tokens, Partials out) {
  extern __shared__ __align__(16) std::byte memory[];
  auto& shared = *reinterpret_cast<typename Config::Shared*>(memory);
  const TileRows rows = tile_rows(args, run, blockIdx.z, tokens, static_cast<int32_t>(blockIdx.y));
  const Pieces<kParts> pieces(rows);
  if (static_cast<int>(blockIdx.x) >= pieces.count) return;
  const int begin = (pieces.first + static_cast<int>(blockIdx.x)) * kParts;
  const int first = max(rows.first_part(), begin);
  const int last = min(rows.last_part(), begin + kParts - 1);
  Tile<Config> tile(args, rows, shared);
  wait_for_previous();
  let_next_begin();
  tile.template load<Side::kKeys>(first);
  copy_commit();
  tile.template load<Side::kValues>(first);
  copy_commit();
  tile.load_q();
  float acc[Config::kColTiles][4] = {};
  PairState states[2];
  tile.walk(first, last, acc, states, [](int) {});
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    if (!tile.is_row(h)) continue;
    const int64_t pair = (tile.row(h) - run.first_row) * args.q_heads + tile.head(h);
    const int64_t at = pair * out.pieces + blockIdx.x;
    if (tile.first_of_pair()) out.states[at] = states[h];
#pragma unroll
    for (int n = 0; n < Config::kColTiles; ++n) {
      *reinterpret_cast<float2*>(out.values + at * Config::kD + tile.column(n)) =
          float2{acc[n][2 * h], acc[n][2 * h + 1]};
    }
  }
}

}  // namespace facet::cuda
