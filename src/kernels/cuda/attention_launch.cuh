#pragma once

// The launches of all kernels of attention on tensor cores for one dtype of the cache.

#include <algorithm>

#include "kernels/cuda/attention_decode.cuh"
#include "kernels/cuda/attention_pieces.cuh"
#include "kernels/cuda/attention_tiles.h"
#include "kernels/cuda/attention_walk.cuh"

namespace facet::cuda {

/// One launch, or pass, of a run.
struct Pass {
  cudaStream_t stream;
  const AttentionArgs& args;
  RowRun run;
  const Cut& how;
  const AttentionMemory& memory;

  Partials partials() const {
    Partials out;
    out.pieces = how.pieces;
    out.values = reinterpret_cast<float*>(memory.partials);
    out.states = reinterpret_cast<PairState*>(out.values + how.pass_rows * args.q_heads *
                                                               how.pieces * args.kv.head_dim);
    return out;
  }
  Traffic traffic() const { return {bytes_of(args, run.rows, run.positions)}; }
};

template <int kParts>
void launch_join(const Pass& pass) {
  const AttentionArgs& args = pass.args;
  const LaunchShape shape = {dim3(grid(pass.run.rows), grid(args.q_heads),
                                  static_cast<unsigned>(args.kv.head_dim / kJoinThreads)),
                             kJoinThreads};
  launch(pass.stream, args.overlap, shape, "attention: join", join_kernel<kParts>, args, pass.run,
         pass.how.tokens, pass.partials(),
         args.kv.dtype == DType::kF8E4M3 ? args.kv.v_scale : 1.0F);
}

template <typename Config, int kParts>
void launch_pieces(const Pass& pass) {
  const LaunchShape shape = {.grid = dim3(grid(pass.how.pieces), grid(pass.args.kv.kv_heads),
                                          grid(ceil_div(pass.run.rows, pass.how.tokens))),
                             .threads = Config::kThreads,
                             .shared_bytes = sizeof(typename Config::Shared),
                             .traffic = pass.traffic()};
  launch(pass.stream, pass.args.overlap, shape, "attention: pieces", piece_kernel<Config, kParts>,
         pass.args, pass.run, pass.how.tokens, pass.partials());
  launch_join<kParts>(pass);
}

template <typename Config, int kParts, Join kJoin>
void launch_rows(const Pass& pass, const Unprepared& unprepared) {
  const Cut& how = pass.how;
  constexpr bool kCluster = kJoin == Join::kCluster;
  const int inbox = kCluster ? Inbox::bytes(how.heads * kUnits<Config>, how.blocks) : 0;
  const LaunchShape shape = {
      .grid = dim3(grid(how.blocks), grid(pass.args.q_heads / how.heads), grid(pass.run.rows)),
      .threads = Config::kThreads,
      .shared_bytes = static_cast<int>(sizeof(typename Config::Shared)) + inbox,
      .cluster_x = kCluster ? grid(how.blocks) : 1,
      .traffic = pass.traffic()};
  launch(pass.stream, pass.args.overlap, shape, "attention: rows",
         rows_kernel<Config, kParts, kJoin>, pass.args, unprepared, pass.run, how.heads,
         pass.partials(), pass.memory.arrivals);
  if (kJoin == Join::kApart) launch_join<kParts>(pass);
}

/// Many blocks share an SM, few have it for themselves.
template <typename Many, typename Few, int kParts>
void launch_rows(const Pass& pass, const Unprepared& unprepared) {
  if (pass.how.join_apart) return launch_rows<Many, kParts, Join::kApart>(pass, unprepared);
  if constexpr (Few::kD == 256) {
    if (pass.how.cluster) return launch_rows<Few, kParts, Join::kCluster>(pass, unprepared);
  }
  launch_rows<Few, kParts, Join::kMeeting>(pass, unprepared);
}

template <typename Walk>
void launch_walk(const Pass& pass) {
  static_assert(Walk::kPairs == walk_pairs(Walk::kD));
  const LaunchShape shape = {
      .grid = dim3(grid(ceil_div(pass.run.rows, pass.how.tokens)), grid(pass.args.kv.kv_heads)),
      .threads = Walk::kThreads,
      .shared_bytes = sizeof(typename Walk::Shared),
      .traffic = pass.traffic()};
  launch(pass.stream, pass.args.overlap, shape, "attention", walk_kernel<Walk>, pass.args, pass.run,
         pass.how.tokens);
}

template <typename Many, typename Few, typename Piece, typename Walk>
void launch_tiles(cudaStream_t stream,
                  const AttentionArgs& args,
                  const RowRun& run,
                  const Cut& how,
                  const AttentionMemory& memory,
                  const Unprepared& unprepared) {
  if (how.walk) return launch_walk<Walk>({stream, args, run, how, memory});
  for (int64_t done = 0; done < run.rows; done += how.pass_rows) {
    Pass pass = {stream, args, run, how, memory};
    pass.run.first_row += done;
    pass.run.rows = std::min(how.pass_rows, run.rows - done);
    if (run.one_sequence && how.piece_parts == 1) {
      launch_pieces<Piece, 1>(pass);
    } else if (run.one_sequence) {
      launch_pieces<Piece, kSpanParts>(pass);
    } else if (how.piece_parts == 1) {
      launch_rows<Many, Few, 1>(pass, unprepared);
    } else {
      launch_rows<Many, Few, kSpanParts>(pass, unprepared);
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
  constexpr bool kFp8 = kType == DType::kF8E4M3;
  using Rows256 = RowConfig<kType, 256, 2, kFp8 ? 4 : 3>;
  using Many512 = RowConfig<kType, 512, kFp8 ? 2 : 3, kFp8 ? 2 : 1>;
  using Few512 = RowConfig<kType, 512, kFp8 ? 4 : 3, 1>;
  if (args.kv.head_dim == 256) {
    launch_tiles<Rows256, Rows256, Piece256, Walk256>(stream, args, run, how, memory, unprepared);
  } else {
    launch_tiles<Many512, Few512, Piece512, Walk512>(stream, args, run, how, memory, unprepared);
  }
}

}  // namespace facet::cuda
