#pragma once

// Attention of prompts: a block walks all parts that its rows see. And the launches of all kernels
// for one dtype of the cache.

#include <algorithm>

#include "kernels/cuda/attention_pieces.cuh"
#include "kernels/cuda/attention_tiles.h"

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

template <typename Config, int kParts>
void launch_pieces(cudaStream_t stream,
                   const AttentionArgs& args,
                   const RowRun& run,
                   const Cut& how,
                   const AttentionMemory& memory,
                   const Unprepared& unprepared) {
  Partials partials;
  partials.pieces = how.pieces;
  partials.values = reinterpret_cast<float*>(memory.partials);
  partials.states = reinterpret_cast<PairState*>(
      partials.values + how.pass_rows * args.q_heads * how.pieces * args.kv.head_dim);
  const LaunchShape shape = {
      .grid = dim3(grid(how.pieces), grid(args.kv.kv_heads), grid(ceil_div(run.rows, how.tokens))),
      .threads = Config::kThreads,
      .shared_bytes = sizeof(typename Config::Shared),
      .traffic = {bytes_of(args, run.rows, run.positions)}};
  launch(stream, args.overlap, shape, "attention: pieces", piece_kernel<Config, kParts>, args,
         unprepared, run, how.tokens, partials, how.join_apart ? nullptr : memory.arrivals);
  if (!how.join_apart) return;
  const LaunchShape joins = {dim3(grid(run.rows), grid(args.q_heads), Config::kD / kJoinThreads),
                             kJoinThreads};
  launch(stream, args.overlap, joins, "attention: join", join_kernel<kParts>, args, run, how.tokens,
         partials, Config::kFp8 ? args.kv.v_scale : 1.0F);
}

template <typename Piece, typename Walk>
void launch_tiles(cudaStream_t stream,
                  const AttentionArgs& args,
                  const RowRun& run,
                  const Cut& how,
                  const AttentionMemory& memory,
                  const Unprepared& unprepared) {
  static_assert(Walk::kPairs == walk_pairs(Walk::kD));
  if (how.walk) {
    const LaunchShape shape = {
        .grid = dim3(grid(ceil_div(run.rows, how.tokens)), grid(args.kv.kv_heads)),
        .threads = Walk::kThreads,
        .shared_bytes = sizeof(typename Walk::Shared),
        .traffic = {bytes_of(args, run.rows, run.positions)}};
    return launch(stream, args.overlap, shape, "attention", walk_kernel<Walk>, args, run,
                  how.tokens);
  }
  for (int64_t done = 0; done < run.rows; done += how.pass_rows) {
    RowRun pass = run;
    pass.first_row += done;
    pass.rows = std::min(how.pass_rows, run.rows - done);
    if (how.piece_parts == 1) {
      launch_pieces<Piece, 1>(stream, args, pass, how, memory, unprepared);
    } else {
      launch_pieces<Piece, kSpanParts>(stream, args, pass, how, memory, unprepared);
    }
  }
}

template <DType kType>
void run_tiles(cudaStream_t stream,
               const AttentionArgs& args,
               const RowRun& run,
               const Cut& how,
               const AttentionMemory& memory,
               const Unprepared& unprepared) {
  using Piece256 = TileConfig<kType, 256, 1, 4, true>;
  using Walk256 = TileConfig<kType, 256, 4, 2, true>;
  using Piece512 = TileConfig<kType, 512, 1, 4, true>;
  using Walk512 = TileConfig<kType, 512, 2, 4, false>;
  if (args.kv.head_dim == 256) {
    launch_tiles<Piece256, Walk256>(stream, args, run, how, memory, unprepared);
  } else {
    launch_tiles<Piece512, Walk512>(stream, args, run, how, memory, unprepared);
  }
}

}  // namespace facet::cuda
