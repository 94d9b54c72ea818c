#pragma once

// How a block of attention of single rows is made, which pieces of the row's positions it has, and
// how their K and V come into shared memory.

#include "kernels/cuda/attention_join.cuh"

namespace facet::cuda {

/// kMostBlocks: blocks of an SM, for which kRingStages leave room.
template <DType kKvType, int kHeadDim, int kRingStages, int kMostBlocks>
struct RowConfig {
  static constexpr DType kType = kKvType;
  static constexpr bool kFp8 = kKvType == DType::kF8E4M3;
  static constexpr int kD = kHeadDim;
  static constexpr int kSlice = 64;  // components of a warp: those that are added on tensor cores
  static constexpr int kWarps = kD / kSlice;
  static constexpr int kThreads = kWarps * kWarp;
  static constexpr int kBytes = kFp8 ? 1 : 2;  // of a cached value
  static constexpr int kSliceBytes = kSlice * kBytes;
  static constexpr int kUnits = kSliceBytes / 16;
  static constexpr int kStageBytes = kPart * kSliceBytes;
  static constexpr int kStages = kRingStages;
  static constexpr int kBlocks = kMostBlocks;
  static constexpr int kColumns = 8;
  static constexpr int kStrideQ = kD + 8;  // floats: rows in other banks

  struct Start {
    float q[kColumns][kStrideQ];
    alignas(16) uint8_t fresh[2][kD * kBytes];  // K and V of the row's own position, as stored
  };
  struct Scores {
    float sums[kWarps][kPart * kColumns];         // of each warp's components
    float all[kPart * kColumns + kPart / 4 * 8];  // [position][column], four rows and a gap
  };
  struct Shared {
    alignas(128) uint8_t ring[kWarps][kStages][kStageBytes];
    union {
      alignas(16) Start start;
      alignas(16) Scores scores;
    };
  };
};

/// What a block has of a row's positions: `count` pieces from `late` on; on a ring one, and the
/// piece `early` one turn before it; -1: none.
struct RowPiece {
  int late = -1;
  int early = -1;
  int count = 1;

  template <int kParts>
  __device__ static RowPiece of(const Pieces<kParts>& pieces, int block, int blocks, bool ring) {
    const int last = pieces.first + pieces.count - 1;
    RowPiece piece;
    if (ring) {
      piece.late = last - (last - block + blocks) % blocks;
    } else {
      piece.count = (pieces.count + blocks - 1) / blocks;
      piece.late = pieces.first + block * piece.count;
    }
    if (piece.late < pieces.first || piece.late > last) piece.late = -1;
    if (ring && piece.late - blocks >= pieces.first) piece.early = piece.late - blocks;
    return piece;
  }
  __device__ bool any() const { return late >= 0; }
};

/// A warp's ring: K and V, in its components, of the parts of the block's pieces, one after the
/// other. It alone fills and reads it.
template <typename Config, int kParts>
class RowRing {
 public:
  /// `fresh`: the row's own position if its K and V are not yet in the cache, else -1.
  __device__ RowRing(const AttentionArgs& args,
                     const TileRows& rows,
                     const RowPiece& piece,
                     int fresh,
                     typename Config::Shared& shared)
      : args_(args),
        rows_(rows),
        piece_(piece),
        ring_(shared.ring[threadIdx.x / kWarp]),
        table_(table_of_row(args.kv, rows.first_row)),
        tiles_(piece.count * kParts),
        fresh_(fresh),
        slice_(static_cast<int>(threadIdx.x) / kWarp * Config::kSliceBytes),
        lane_(threadIdx.x % kWarp) {}

  /// Starts as many copies as the ring holds.
  __device__ void begin() {
    next_ = first_tile(0);
    find(next_);
#pragma unroll
    for (int i = 0; i < Config::kStages; ++i) issue();
  }
  /// Takes K and V of the fresh position. All lanes, whether there is one or not.
  __device__ void take_fresh(const typename Config::Start& start) {
    const int unit = lane_ % (2 * Config::kUnits);
    fresh_unit_ =
        load_shared(start.fresh[unit / Config::kUnits] + slice_ + unit % Config::kUnits * 16);
    fresh_is_here_ = true;
    patch(0, fresh_k_stage_);
    patch(1, fresh_v_stage_);
  }

  /// The next part's keys, or values, once they are there: unit u of row r at place(r, u).
  __device__ const uint8_t* take() const {
    copy_wait<Config::kStages - 1>();
    __syncwarp();
    return ring_[stage_];
  }
  /// After what take() returned has been read: its place is free for others.
  __device__ void give() {
    __syncwarp();
    if (++stage_ == Config::kStages) stage_ = 0;
    issue();
  }
  __device__ static uint32_t place(int row, int unit) {
    const int other = Config::kFp8 ? row / 2 % 4 : row % 8;
    return row * Config::kSliceBytes + (unit ^ other) * 16;
  }

  /// The first position of the tile-th part of a piece if the row sees any of it.
  __device__ int part_begin(int piece, int tile) const {
    const int part = piece * kParts + tile;
    const bool seen = piece >= 0 && part >= rows_.first_part() && part <= rows_.last_part();
    return seen ? part * kPart : kNowhere;
  }
  __device__ int tiles() const { return tiles_; }
  /// The first tile from `tile` on of which the row sees something; tiles_: none.
  __device__ int first_tile(int tile) const {
    while (tile < tiles_ && part_begin(piece_.late, tile) < 0 && part_begin(piece_.early, tile) < 0)
      ++tile;
    return tile;
  }
  __device__ bool sees(int position) const {
    return position >= rows_.first_seen && position <= rows_.last_seen;
  }

 private:
  static constexpr int kUnseen = -1;
  static constexpr int kFresh = -2;
  static constexpr int kNowhere = -2 * kPart;  // of a part that is not there

  /// Asks where this lane's two positions of a tile lie; locate() makes rows of the cache of them.
  __device__ void find(int tile) {
    if (tile >= tiles_) return;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = half * kWarp + lane_;
      int position = part_begin(piece_.late, tile) + row;
      if (!sees(position)) position = part_begin(piece_.early, tile) + row;
      const bool there = sees(position);
      within_[half] = !there               ? kUnseen
                      : position == fresh_ ? kFresh
                                           : position % args_.kv.page_size;
      page_[half] = within_[half] >= 0 ? table_[position / args_.kv.page_size] : 0;
    }
  }
  __device__ void locate() {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      row_[half] = within_[half] < 0
                       ? within_[half]
                       : (page_[half] * args_.kv.kv_heads + rows_.kv_head) * args_.kv.page_size +
                             within_[half];
    }
  }
  /// Starts the copy of the next tile's keys or values, if there is one. Always a group of copies.
  __device__ void issue() {
    if (next_ < tiles_) {
      if (next_side_ == 0) locate();
      copy();
      if (fresh_ >= 0 && part_begin(piece_.late, next_) == fresh_ / kPart * kPart) {
        if (fresh_is_here_) {
          patch(next_side_, next_stage_);
        } else if (next_side_ == 0) {
          fresh_k_stage_ = next_stage_;
        } else {
          fresh_v_stage_ = next_stage_;
        }
      }
      if (next_side_ == 1) {
        next_ = first_tile(next_ + 1);
        find(next_);
      }
      next_side_ ^= 1;
      if (++next_stage_ == Config::kStages) next_stage_ = 0;
    }
    copy_commit();
  }
  __device__ void copy() const {
    constexpr int kRows = kWarp / Config::kUnits;  // at once
    constexpr int kPasses = kPart / kRows;
    const int unit = lane_ % Config::kUnits;
    const std::byte* from = (next_side_ == 0 ? args_.kv.k : args_.kv.v) + slice_ + unit * 16;
    const uint32_t to = shared_address(ring_[next_stage_]);
#pragma unroll
    for (int pass = 0; pass < kPasses; ++pass) {
      const int row = pass * kRows + lane_ / Config::kUnits;
      const int there = __shfl_sync(kAllLanes, row_[pass / (kPasses / 2)], row % kWarp);
      copy_async_if(to + place(row, unit),
                    from + int64_t{max(there, 0)} * (Config::kD * Config::kBytes), there >= 0,
                    there != kFresh);
    }
  }
  /// Puts the fresh position's K (side 0) or V where copy() left room; stage -1: it did not.
  __device__ void patch(int side, int stage) const {
    uint8_t* to = ring_[max(stage, 0)] + place(max(fresh_, 0) % kPart, lane_ % Config::kUnits);
    if (stage >= 0 && lane_ / Config::kUnits == side) *reinterpret_cast<uint4*>(to) = fresh_unit_;
  }

  const AttentionArgs& args_;
  const TileRows& rows_;
  const RowPiece piece_;
  uint8_t (&ring_)[Config::kStages][Config::kStageBytes];
  const int32_t* table_;
  const int tiles_;  // parts of the block's pieces
  const int fresh_;
  const int slice_;  // bytes of a position before this warp's
  const int lane_;
  int next_ = 0;  // the tile, side and stage of the next copy
  int next_side_ = 0;
  int next_stage_ = 0;
  int stage_ = 0;
  int page_[2];
  int within_[2];
  int row_[2];
  uint4 fresh_unit_ = {};
  bool fresh_is_here_ = false;
  int fresh_k_stage_ = -1;  // where room was left before the fresh position was there
  int fresh_v_stage_ = -1;
};

}  // namespace facet::cuda
