#pragma once

// Attention of few rows: a block for each piece of a row's positions and KV head.

#include "kernels/cuda/attention_join.cuh"
#include "kernels/cuda/head.cuh"

namespace facet::cuda {

/// q of the tile's one row from its projection into shared memory, as the three terms; and, by the
/// block that owns the row's own position, K and V of that position into the cache and, as they
/// are stored, into shared memory. Warps take heads in turn.
template <typename Config>
__device__ void prepare_heads(const AttentionArgs& args,
                              const Unprepared& from,
                              const TileRows& rows,
                              bool owner,
                              typename Config::Shared& shared) {
  static_assert(Config::kSplit);
  constexpr int kPerLane = Config::kD / kWarp;
  const int lane = threadIdx.x % kWarp;
  const int64_t row = rows.first_row;
  const int32_t position = rows.last_seen;
  const int64_t kv_at = (row * args.kv.kv_heads + rows.kv_head) * Config::kD;
  for (int head = threadIdx.x / kWarp; head < rows.group + (owner ? 2 : 0);
       head += Config::kThreads / kWarp) {
    Head<kPerLane> mine;
    if (head < rows.group) {
      mine.load(args.q + (row * args.q_heads + rows.kv_head * rows.group + head) * Config::kD,
                lane);
      mine.norm(from.q_norm, from.eps, lane);
      mine.rotate(from.frequencies, from.angles, position, lane);
#pragma unroll
      for (int i = 0; i < kPerLane; ++i) {
        float2 rest = {mine.values[i], 0.0F};
#pragma unroll
        for (int t = 0; t < 3; ++t) {
          shared.terms[(t * Config::kPairs + head) * Config::kStrideQ + lane + i * kWarp] =
              static_cast<uint16_t>(split_off(rest));
        }
      }
      continue;
    }
    const bool is_k = head == rows.group;
    mine.load((is_k ? from.k : from.v) + kv_at, lane);
    mine.norm(is_k ? from.k_norm : nullptr, from.eps, lane);
    if (is_k) mine.rotate(from.frequencies, from.angles, position, lane);
    const int64_t place = kv_place(args.kv, table_of_row(args.kv, row), rows.kv_head, position);
    std::byte* cache = is_k ? args.kv.k : args.kv.v;
    auto* here = reinterpret_cast<std::byte*>(is_k ? shared.fresh_k : shared.fresh_v);
    const float scale = is_k ? args.kv.k_scale : args.kv.v_scale;
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) {
      const float value = mine.values[i] / scale;
      store_kv_value<Config::kType>(cache, place + lane + i * kWarp, value);
      store_kv_value<Config::kType>(here, lane + i * kWarp, value);
    }
  }
}

/// Whether this block is the last of `count` to come here with `arrivals`, which is then 0 again.
/// All threads; what the others wrote before is then visible past L1.
__device__ inline bool arrives_last(int32_t* arrivals, int count) {
  __shared__ bool last;
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) {
    last = atomicAdd(arrivals, 1) == count - 1;
    if (last) *arrivals = 0;
    __threadfence();
  }
  __syncthreads();
  return last;
}

/// A block has a piece of kParts parts (x), a KV head (y) and a tile of rows (z). `arrivals`: [z,
/// y], or null: join_kernel follows.
template <typename Config, int kParts>
__global__ void __launch_bounds__(Config::kThreads) piece_kernel(const AttentionArgs args,
                                                                 const Unprepared unprepared,
                                                                 const RowRun run,
                                                                 int32_t tokens,
                                                                 Partials out,
                                                                 int32_t* arrivals) {
  extern __shared__ __align__(16) std::byte memory[];
  auto& shared = *reinterpret_cast<typename Config::Shared*>(memory);
  const TileRows rows = tile_rows(args, run, blockIdx.z, tokens, static_cast<int32_t>(blockIdx.y));
  const Pieces<kParts> pieces(rows);
  if (static_cast<int>(blockIdx.x) >= pieces.count) return;
  const int begin = (pieces.first + static_cast<int>(blockIdx.x)) * kParts;
  const int first = max(rows.first_part(), begin);
  const int last = min(rows.last_part(), begin + kParts - 1);
  const bool stores = unprepared.k != nullptr;
  Tile<Config> tile(args, rows, shared, stores ? rows.last_seen : -1);
  // Positions before a row's own are of steps long done; what the kernel before this one may have
  // written is not read before it has ended.
  if (!stores) wait_for_previous();
  tile.template load<Side::kKeys>(first);
  copy_commit();
  tile.template load<Side::kValues>(first);
  copy_commit();
  if (stores) wait_for_previous();
  let_next_begin();
  if (unprepared.q_norm != nullptr) {
    prepare_heads<Config>(args, unprepared, rows, stores && last == rows.last_part(), shared);
    __syncthreads();
    tile.template patch<Side::kKeys>(first);
    tile.template patch<Side::kValues>(first);
  } else {
    tile.load_q();
  }
  float acc[Config::kColTiles][4] = {};
  PairState states[2];
  tile.walk(first, last, acc, states, [](int) {});
  const float factor = out_factor<Config>(args);
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    if (!tile.is_row(h)) continue;
    if (pieces.count == 1) {
      float* to = args.out + (tile.row(h) * args.q_heads + tile.head(h)) * Config::kD;
#pragma unroll
      for (int n = 0; n < Config::kColTiles; ++n) {
        *reinterpret_cast<float2*>(to + tile.column(n)) =
            float2{__fmul_rn(acc[n][2 * h] / states[h].sum, factor),
                   __fmul_rn(acc[n][2 * h + 1] / states[h].sum, factor)};
      }
      continue;
    }
    const int64_t pair = (tile.row(h) - run.first_row) * args.q_heads + tile.head(h);
    const int64_t at = pair * out.pieces + blockIdx.x;
    if (tile.first_of_pair()) out.states[at] = states[h];
#pragma unroll
    for (int n = 0; n < Config::kColTiles; ++n) {
      *reinterpret_cast<float2*>(out.values + at * Config::kD + tile.column(n)) =
          float2{acc[n][2 * h], acc[n][2 * h + 1]};
    }
  }
  if (pieces.count == 1 || arrivals == nullptr) return;
  if (!arrives_last(arrivals + blockIdx.z * gridDim.y + blockIdx.y, pieces.count)) return;
  constexpr int kPerPair = Config::kD / 4;
  for (int i = threadIdx.x; i < rows.tokens * rows.group * kPerPair; i += Config::kThreads) {
    const int64_t row = rows.first_row + i / kPerPair / rows.group;
    const int head = rows.kv_head * rows.group + i / kPerPair % rows.group;
    const float4 v = join_few<kParts>(out, (row - run.first_row) * args.q_heads + head, pieces,
                                      Config::kD, i % kPerPair * 4);
    *reinterpret_cast<float4*>(args.out + (row * args.q_heads + head) * Config::kD +
                               i % kPerPair * 4) =
        float4{__fmul_rn(v.x, factor), __fmul_rn(v.y, factor), __fmul_rn(v.z, factor),
               __fmul_rn(v.w, factor)};
  }
}

}  // namespace facet::cuda
