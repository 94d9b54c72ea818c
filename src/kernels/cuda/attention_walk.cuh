#pragma once

// Attention of prompts: a block walks all parts that its rows see.

#include "kernels/cuda/attention_tiles.cuh"

namespace facet::cuda {

/// A block has a KV head (y) and a tile of rows (x), the last first.
template <typename Config>
__global__ void __launch_bounds__(Config::kThreads)
    walk_kernel(const AttentionArgs args, const RowRun run, int32_t tokens) {
  extern __shared__ __align__(16) std::byte memory[];
  auto& shared = *reinterpret_cast<typename Config::Shared*>(memory);
  wait_for_previous();
  let_next_begin();
  const TileRows rows =
      tile_rows(args, run, gridDim.x - 1 - blockIdx.x, tokens, static_cast<int32_t>(blockIdx.y));
  Tile<Config> tile(args, rows, shared);
  const int last = rows.last_part();
  const int first = rows.first_part();
  tile.template load<Side::kKeys>(first);
  copy_commit();
  tile.template load<Side::kValues>(first);
  copy_commit();
  tile.load_q();
  float acc[Config::kColTiles][4] = {};
  float all[Config::kColTiles][4] = {};
  PairState states[2];
  PairState totals[2];
  tile.walk(first, last, acc, states, [&](int part) {
    if ((part + 1) % kSpanParts != 0 && part != last) return;
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const JoinFactors f = join(totals[h], states[h].max, states[h].sum);
      states[h] = {};
#pragma unroll
      for (int n = 0; n < Config::kColTiles; ++n) {
#pragma unroll
        for (int i = 2 * h; i < 2 * h + 2; ++i) {
          join(all[n][i], acc[n][i], f);
          acc[n][i] = 0.0F;
        }
      }
    }
  });
  const float factor = out_factor<Config>(args);
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    if (!tile.is_row(h)) continue;
    float* out = args.out + (tile.row(h) * args.q_heads + tile.head(h)) * Config::kD;
#pragma unroll
    for (int n = 0; n < Config::kColTiles; ++n) {
      *reinterpret_cast<float2*>(out + tile.column(n)) =
          float2{__fmul_rn(all[n][2 * h] / totals[h].sum, factor),
                 __fmul_rn(all[n][2 * h + 1] / totals[h].sum, factor)};
    }
  }
}

}  // namespace facet::cuda
