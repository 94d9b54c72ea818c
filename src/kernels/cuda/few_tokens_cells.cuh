#pragma once

// Attention of several tokens in few_tokens: a token's heads over the CTA's positions, tokens by
// cells of warps (TokenCells). The bits of attention_decode.cuh.

#include "kernels/cuda/few_tokens_attention.cuh"

namespace facet::cuda {

/// A token's heads of one KV head over the CTA's positions, into partial results. A cell's workers,
/// TokenCells::rings of them to a slice of the components, each with its share of the slice's four
/// tiles; the layer's products are there.
template <int T>
class TokenAttend {
 public:
  using Config = TokenAttention::Config;

  __device__ __forceinline__ TokenAttend(const FewTokensArgs& args,
                                         const TokenTables<T>& tables,
                                         const FewTokensLayer& layer,
                                         const TokenRotation<T>& rotation,
                                         uint32_t number,
                                         TokenRings<T>& rings,
                                         TokenRing<T>& ring,
                                         uint8_t* scratch)
      : args_(args),
        tables_(tables),
        layer_(layer),
        kind_(args.kinds[layer.kind]),
        rotation_(rotation),
        number_(number),
        rings_(rings),
        ring_(ring),
        scratch_(scratch) {}

  /// The cell's tokens.
  __device__ __forceinline__ void run() {
    const TokenCells<T> cells = this->cells();
#pragma unroll 1
    for (int token = cells.cell(token_warp()); token < tokens_of<T>(args_);
         token += cells.cells()) {
      const TokenTask& task = tables_.tasks[layer_.kind][token];
      if (task.parts > 0) attend(task, token);
    }
  }

 private:
  static constexpr int kMostTiles = T < 4 ? 2 : 4;  // of 16 positions, and of 16 components
  static constexpr int kShares = TokenSizes<T>::kShares;
  static constexpr int kRows = TokenSizes<T>::kRows;
  static_assert(kRows == 16);  // a slot a tile
  using Products = RowProducts<Config, 1>;
  using Sums = typename Products::Sums;

  __device__ __forceinline__ TokenCells<T> cells() const { return TokenCells<T>(kind_.head_dim); }
  /// A thread's place, read anew: not kept over the parts.
  struct Place {
    const int lane = thread_now() % kWarp;
    const int worker = token_warp();
    const int warp;  // of the cell
    const int slice;
    const int turn;  // of the slice's rings
    __device__ explicit Place(const TokenCells<T>& cells)
        : warp(cells.place(worker)), slice(cells.slice(worker)), turn(cells.turn(worker)) {}
  };
  __device__ __forceinline__ void sync() const {
    const TokenCells<T> cells = this->cells();
    sync_warps(cells.warps(), cells.cell(token_warp()));
  }
  __device__ __forceinline__ TokenAttention& room() const {
    return *reinterpret_cast<TokenAttention*>(scratch_ + cells().cell(token_warp()) * kCellRoom);
  }

  __device__ __forceinline__ void attend(const TokenTask& task, int token) {
    const TokenCells<T> cells = this->cells();
    const Place first(cells);
    TokenAttention& room = this->room();
    sync();  // nobody reads there any more
    prepare_heads(args_, layer_, task, rotation_, token, tables_.kv_rows[layer_.kind][token],
                  number_, first.warp, cells.warps(), room.start);
    sync();
    Products products(task.rows.group, first.slice);
    products.take_q(room.start.q, task.piece.early >= 0);
    const uint4 fresh_unit = load_shared(room.start.fresh[first.lane / 8 % 2] +
                                         first.slice * kKvSliceBytes + first.lane % 8 * 16);
    sync();

    Sums acc[2] = {};  // of heads of 256, in cells of a group: of one part, and so not needed
    PairState state;   // of column `warp`, if it is one
#pragma unroll 1
    for (int part = 0; part < task.parts; ++part) {
      const Place place(cells);
      const int lane = place.lane;
      const int heads = task.rows.group;
      const int columns = task.piece.early >= 0 ? 2 * heads : heads;
      const int fresh_at = task.fresh - task.first_part * kPart;  // among the CTA's positions
      // K and V of the token's own position go where what was copied is not yet of it: each warp
      // has the slots of its ring.
      const int fresh_share =
          task.fresh >= 0 && fresh_at / kPart == part ? fresh_at % kPart / kRows : -1;
      const auto patch = [&](int side, const uint8_t* slot) {
        if (lane / 8 == side)
          *reinterpret_cast<uint4*>(const_cast<uint8_t*>(slot) +
                                    kv_place(fresh_at % kRows, lane % 8)) = fresh_unit;
        show_to_copies();  // threads wrote there, copies of weights come next
        __syncwarp();
      };
#pragma unroll 1
      for (int tile = place.turn; tile < kShares; tile += cells.rings()) {
        const uint8_t* keys = ring_.wait();
        if (tile == fresh_share) patch(0, keys);
        Sums sums = {};
        products.template multiply_keys<false>(
            [&](int, int row, int unit) { return keys + kv_place(row, unit); }, sums);
        ring_.release();
        float* to = room.sums.scores[place.slice] + (tile * 16 + lane / 4) * Config::kColumns +
                    lane % 4 * 2;
        *reinterpret_cast<float2*>(to) = float2{sums[0][0], sums[0][1]};
        *reinterpret_cast<float2*>(to + 8 * Config::kColumns) = float2{sums[0][2], sums[0][3]};
      }
      if (cells.rings() > 1) {
        if (fresh_share >= 0 && (fresh_share & (cells.rings() - 1)) == place.turn)
          patch(1, ring_.wait(fresh_share >> cells.ring_bits()));
        if (lane == 0) rings_.at[place.worker] = ring_.at();
      }
      sync();
      if (place.warp < columns) {
        weigh_part(room.sums, task, part, place.warp, heads, lane, kind_.head_dim / Config::kSlice,
                   state);
      }
      sync();
      JoinFactors factors[2];
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const float2 of = room.sums.factors[lane % 4 * 2 + i];
        factors[i] = {of.x, of.y, of.y >= 0.0F};
      }
      const auto weights_of = [&](int n) { return weights_at(room.sums, lane, n); };
      const int tiles = 4 >> cells.ring_bits();  // of the warp
      const int first_tile = place.turn * tiles;
      Sums sums[kMostTiles] = {};
#pragma unroll
      for (int share = 0; share < kShares; ++share) {
        const uint8_t* values;
        if (cells.rings() == 1) {
          values = ring_.wait();
          if (share == fresh_share) patch(1, values);
        } else {
          const int from = place.worker - place.turn + (share & (cells.rings() - 1));
          values =
              rings_.wait(from, TokenRings<T>::after(rings_.at[from], share >> cells.ring_bits()));
        }
        uint32_t largest = 0;
#pragma unroll
        for (int t = 0; t < kMostTiles; ++t) {
          if (t >= tiles) break;
          products.template add_values<false>(
              share,
              [&](int row, int unit) {
                return values + kv_place(row, (first_tile + t) * 2 + unit);
              },
              weights_of, sums[t], largest);
        }
        if (cells.rings() == 1) ring_.release();
      }
      if (kMostTiles > 2 && !cells.wide) {
#pragma unroll
        for (auto& tile : sums) {
#pragma unroll
          for (int i = 0; i < 4; ++i) {
            float all = 0.0F;
            join(all, tile[0][i], factors[i % 2]);
            tile[0][i] = all;
          }
        }
      } else {
#pragma unroll
        for (int t = 0; t < 2; ++t) {
#pragma unroll
          for (int i = 0; i < 4; ++i) {
            if (t < tiles) join(acc[t][0][i], sums[t][0][i], factors[i % 2]);
            sums[t][0][i] = acc[t][0][i];
          }
        }
      }
      if ((part + 1) % task.parts_a_piece == 0 || part + 1 == task.parts) {
        const TokenPartials out(args_, kind_, token);
        const auto piece_of = [&](int column) {
          if (column >= columns) return -1;
          return column >= heads ? 0
                                 : task.piece.late - task.first_piece + part / task.parts_a_piece;
        };
        const auto head_of = [&](int column) {
          return task.rows.kv_head * heads + (column >= heads ? column - heads : column);
        };
        if (place.warp < columns && lane == 0) {
          uint2* to = out.state(head_of(place.warp), piece_of(place.warp));
          tell(to, state.max, number_);
          tell(to + 1, state.sum, number_);
        }
        state = {};
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          const int column = lane % 4 * 2 + i;
          const int piece = piece_of(column);
          if (piece < 0) continue;
          uint2* to = out.value(head_of(column), piece) + place.slice * Config::kSlice + lane / 4;
#pragma unroll
          for (int t = 0; t < kMostTiles; ++t) {
            if (t >= tiles) break;
            tell(to + (first_tile + t) * 16, sums[t][0][i], number_);
            tell(to + (first_tile + t) * 16 + 8, sums[t][0][i + 2], number_);
          }
        }
#pragma unroll
        for (auto& tile : acc) tile[0][0] = tile[0][1] = tile[0][2] = tile[0][3] = 0.0F;
      }
      if (cells.rings() > 1) {
        sync_group(place.worker / kChunks);  // all of the slice have read
#pragma unroll 1
        for (int n = place.turn; n < kShares; n += cells.rings()) ring_.release();
      }
    }
  }

  const FewTokensArgs& args_;
  const TokenTables<T>& tables_;
  const FewTokensLayer& layer_;
  const FewTokensKind& kind_;
  const TokenRotation<T>& rotation_;
  const uint32_t number_;
  TokenRings<T>& rings_;
  TokenRing<T>& ring_;
  uint8_t* const scratch_;
};

}  // namespace facet::cuda
