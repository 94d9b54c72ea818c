#pragma once

// Attention of one token in few_tokens: its heads over the CTA's positions. The bits of
// attention_decode.cuh.

#include "kernels/cuda/few_tokens_heads.cuh"
#include "kernels/cuda/few_tokens_join.cuh"

namespace facet::cuda {

/// The softmax's weights of a part's positions in one column, by a warp whose lane 4n + i has
/// positions 8n + 2i and the next. RowMath::weigh(), bit for bit.
__device__ __forceinline__ void weigh_column(TokenAttention::Sums& sums,
                                             int column,
                                             int slices,
                                             bool first_seen,
                                             bool second_seen,
                                             PairState& state) {
  constexpr int kColumns = TokenAttention::Config::kColumns;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  float2 scores = {0.0F, 0.0F};
#pragma unroll 4
  for (int slice = 0; slice < slices; ++slice) {
    const float* from = sums.scores[slice] + lane * 2 * kColumns + column;
    scores.x = __fadd_rn(scores.x, from[0]);
    scores.y = __fadd_rn(scores.y, from[kColumns]);
  }
  if (!first_seen) scores.x = -INFINITY;
  if (!second_seen) scores.y = -INFINITY;
  const float largest = warp_max(fmaxf(scores.x, scores.y));
  float2 weights = {weight_of(scores.x, largest), weight_of(scores.y, largest)};
  const uint32_t high = split_off(weights);
  const uint32_t low = pack_bf16(weights.x, weights.y);
  float of_tile =
      __fadd_rn(__fadd_rn(__uint_as_float(high << 16), __uint_as_float(low << 16)),
                __fadd_rn(__uint_as_float(high & 0xffff0000u), __uint_as_float(low & 0xffff0000u)));
  of_tile = __fadd_rn(of_tile, __shfl_xor_sync(kAllLanes, of_tile, 1));
  of_tile = __fadd_rn(of_tile, __shfl_xor_sync(kAllLanes, of_tile, 2));
  float sum = 0.0F;
#pragma unroll
  for (int n = 0; n < 8; ++n) sum = __fadd_rn(sum, __shfl_sync(kAllLanes, of_tile, n * 4));
  const JoinFactors factors = join(state, largest, sum);
  sums.high[column][lane % 4 * 8 + lane / 4] = high;
  sums.low[column][lane % 4 * 8 + lane / 4] = low;
  if (lane == 0) sums.factors[column] = {factors.old, factors.any ? factors.now : -1.0F};
}

/// weigh_column() of the part-th part of a task, of whose columns those from `heads` on are of its
/// early piece.
__device__ __forceinline__ void weigh_part(TokenAttention::Sums& sums,
                                           const TokenTask& task,
                                           int part,
                                           int column,
                                           int heads,
                                           int lane,
                                           int slices,
                                           PairState& state) {
  const bool early = column >= heads;
  const int position = (early ? task.piece.early : task.first_part + part) * kPart + lane * 2;
  const auto seen = [&](int at) { return at >= task.rows.first_seen && at <= task.rows.last_seen; };
  weigh_column(sums, column, slices, seen(position), seen(position + 1), state);
}

/// What weigh_column() left: a lane's weights of the n-th 16 positions.
__device__ __forceinline__ RowWeights weights_at(const TokenAttention::Sums& sums,
                                                 int lane,
                                                 int n) {
  const int at = lane % 4 * 8 + n * 2;
  const auto high = *reinterpret_cast<const uint2*>(sums.high[lane / 4] + at);
  const auto low = *reinterpret_cast<const uint2*>(sums.low[lane / 4] + at);
  return RowWeights{{high.x, high.y}, {low.x, low.y}};
}

/// One token's heads of one KV head over the CTA's positions, into partial results. All workers,
/// TokenCells::rings() of them to a slice of the components, each with its share of the slice's
/// four tiles; `layer`'s products are there. Slots of 32 positions, which a slice's warps all read:
/// more of the ring is left to what comes next.
__device__ __forceinline__ void attend_part(const FewTokensArgs& args,
                                            const TokenTables<1>& tables,
                                            const FewTokensLayer& layer,
                                            const TokenRotation<1>& rotation,
                                            uint32_t number,
                                            TokenRings<1>& rings,
                                            TokenRing<1>& ring,
                                            uint8_t* scratch) {
  using Config = TokenAttention::Config;
  TokenAttention& room = *reinterpret_cast<TokenAttention*>(scratch);
  const TokenTask& task = tables.tasks[layer.kind][0];
  const FewTokensKind& kind = args.kinds[layer.kind];
  const int heads = task.rows.group;
  constexpr int kRowsOfSlot = TokenSizes<1>::kRows;
  const TokenCells<1> cells(kind.head_dim);
  const int rings_of_slice = cells.rings();
  // Where a slot of keys (side 0) or values is among the slice's rings, and which of the part's
  // there.
  const auto ring_of = [&](int side, int half) { return (side * 2 + half) & (rings_of_slice - 1); };
  const auto nth_of = [&](int side) { return cells.wide ? side : 0; };
  constexpr int kMostTiles = 2;
  const int tiles = 4 / rings_of_slice;  // of 16 positions, and of 16 components, of a warp
  const int warp = token_warp();
  const int lane = thread_now() % kWarp;
  const int slice = warp / rings_of_slice;
  const int first_ring = slice * rings_of_slice;  // of the slice
  const int first_tile = (warp - first_ring) * tiles;
  const int columns = task.piece.early >= 0 ? 2 * heads : heads;
  const int fresh_at = task.fresh - task.first_part * kPart;  // among the CTA's positions
  if (lane == 0) rings.at[warp] = ring.at();
  sync_workers();  // nobody reads x any more
  prepare_heads(args, layer, task, rotation, 0, tables.kv_rows[layer.kind][0], number, warp,
                kTokenWorkers, room.start);
  sync_workers();
  using Products = RowProducts<Config, 1>;
  Products products(heads, slice);
  products.take_q(room.start.q, task.piece.early >= 0);
  const uint4 fresh_unit =
      load_shared(room.start.fresh[lane / 8 % 2] + slice * kKvSliceBytes + lane % 8 * 16);
  sync_workers();

  const TokenPartials out(args, kind, 0);
  const int first_head = task.rows.kv_head * heads;
  const int late = task.piece.late - task.first_piece;
  typename Products::Sums acc[kMostTiles] = {};
  PairState state;  // of column `warp`, if it is one
#pragma unroll 1
  for (int part = 0; part < task.parts; ++part) {
    const int lane = thread_now() % kWarp;  // anew: addresses are not kept over the parts
    const auto slot_of = [&](int side, int half) {
      const int from = first_ring + ring_of(side, half);
      const int before = TokenRings<1>::after(rings.at[from], nth_of(side));
      return rings.wait(from, before);
    };
    if (task.fresh >= 0 && fresh_at / kPart == part) {
      // K and V of the token's own position go where what was copied is not yet of it: each warp
      // has the slots of its ring.
#pragma unroll 1
      for (int side = 0; side < 2; ++side) {
        const int half = fresh_at % kPart / kRowsOfSlot;
        if (warp != first_ring + ring_of(side, half)) continue;
        const uint8_t* slot = slot_of(side, half);
        if (lane / 8 == side)
          *reinterpret_cast<uint4*>(const_cast<uint8_t*>(slot) +
                                    kv_place(fresh_at % kRowsOfSlot, lane % 8)) = fresh_unit;
      }
      show_to_copies();  // threads wrote there, copies of weights come next
      sync_group(warp / kChunks);
    }
    const uint8_t* keys = slot_of(0, first_tile / 2);
#pragma unroll 1
    for (int t = 0; t < tiles; ++t) {
      const int tile = first_tile + t;
      typename Products::Sums sums = {};
      products.multiply_keys<false>(
          [&](int, int row, int unit) { return keys + kv_place(tile % 2 * 16 + row, unit); }, sums);
      float* to =
          room.sums.scores[slice] + (tile * 16 + lane / 4) * Config::kColumns + lane % 4 * 2;
      *reinterpret_cast<float2*>(to) = float2{sums[0][0], sums[0][1]};
      *reinterpret_cast<float2*>(to + 8 * Config::kColumns) = float2{sums[0][2], sums[0][3]};
    }
    sync_workers();
    if (warp < columns) {
      weigh_part(room.sums, task, part, warp, heads, lane, kind.head_dim / Config::kSlice, state);
    }
    sync_workers();
    const auto weights = [&](int n) { return weights_at(room.sums, lane, n); };
    JoinFactors factors[2];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const float2 of = room.sums.factors[lane % 4 * 2 + i];
      factors[i] = {of.x, of.y, of.y >= 0.0F};
    }
    const uint8_t* values[] = {slot_of(1, 0), slot_of(1, 1)};
#pragma unroll
    for (int t = 0; t < kMostTiles; ++t) {
      if (t >= tiles) break;
      typename Products::Sums sums = {};
      products.multiply_values<false>(
          [&](int n, int row, int unit) {
            return values[n / 2] + kv_place(n % 2 * 16 + row, (first_tile + t) * 2 + unit);
          },
          weights, sums);
#pragma unroll
      for (int i = 0; i < 4; ++i) join(acc[t][0][i], sums[0][i], factors[i % 2]);
    }
    const auto give = [&] {
      sync_group(warp / kChunks);  // all of the slice have read
#pragma unroll 1
      for (int n = 0; n < 4 / rings_of_slice; ++n) ring.release();
      if (lane == 0) rings.at[warp] = ring.at();
      sync_group(warp / kChunks);
    };
    if ((part + 1) % task.parts_a_piece != 0 && part + 1 < task.parts) {
      give();
      continue;
    }
    const auto piece_of = [&](int column) {
      return column >= columns ? -1 : column >= heads ? 0 : late + part / task.parts_a_piece;
    };
    const auto head_of = [&](int column) {
      return first_head + (column >= heads ? column - heads : column);
    };
    if (warp < columns && lane == 0) {
      uint2* to = out.state(head_of(warp), piece_of(warp));
      tell(to, state.max, number);
      tell(to + 1, state.sum, number);
    }
    state = {};
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int column = lane % 4 * 2 + i;
      const int piece = piece_of(column);
      if (piece < 0) continue;
      uint2* to = out.value(head_of(column), piece) + slice * Config::kSlice + lane / 4;
#pragma unroll
      for (int t = 0; t < kMostTiles; ++t) {
        if (t >= tiles) break;
        tell(to + (first_tile + t) * 16, acc[t][0][i], number);
        tell(to + (first_tile + t) * 16 + 8, acc[t][0][i + 2], number);
      }
    }
#pragma unroll
    for (auto& tile : acc) tile[0][0] = tile[0][1] = tile[0][2] = tile[0][3] = 0.0F;
    give();
  }
}

}  // namespace facet::cuda
