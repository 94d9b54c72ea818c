#pragma once

// The warps of one_token that fill the workers' rings.

#include "kernels/cuda/one_token_ring.cuh"

namespace facet::cuda {

/// Fills the rings of kWorkersOfFeeder workers, a lane each.
class TokenFeeder {
 public:
  __device__ TokenFeeder(const OneTokenArgs& args,
                         const TokenTables& tables,
                         TokenRings& rings,
                         int feeder)
      : args_(args),
        tables_(tables),
        rings_(rings),
        first_(feeder * kWorkersOfFeeder),
        lane_(static_cast<int>(threadIdx.x) % kWarp),
        feeds_(lane_ < kWorkersOfFeeder),
        worker_(first_ + lane_ % kWorkersOfFeeder),
        chunk_(worker_ % kChunks),
        once_(evict_first()) {}

  __device__ void run() {
    for (int index = 0; index < args_.count; ++index) {
      const OneTokenLayer& layer = tables_.layers[index % 2];
#pragma unroll 1
      for (int part = 0; part < static_cast<int>(TokenPart::kExpertsDown); ++part) {
        if (static_cast<TokenPart>(part) == TokenPart::kCache) {
          feed_cache(layer);
        } else if (static_cast<TokenPart>(part) == TokenPart::kExperts) {
          while (tables_.chosen <= index) {
          }
          __threadfence_block();
          __syncwarp();
          feed_experts(layer);
        } else {
          feed_rows(layer, static_cast<TokenPart>(part));
        }
      }
      feed_experts_down(layer);
    }
  }

 private:
  /// Waits until the next slot of the lane's worker has been read, and until no more than so many
  /// are on their way: what else asks memory for something would wait behind them.
  __device__ __forceinline__ void take() const {
    const bool wraps = fill_ < kSlotsInFlight;
    const int before = (wraps ? fill_ + kTokenSlots : fill_) - kSlotsInFlight;
    barrier_wait(shared_address(&rings_.full[worker_][before]), wraps ? turn_ ^ 1 : turn_);
    barrier_wait(shared_address(&rings_.empty[worker_][fill_]), turn_ ^ 1);
  }
  __device__ __forceinline__ uint32_t slot() const {
    return shared_address(rings_.slots[worker_][fill_]);
  }
  __device__ __forceinline__ uint32_t full() const {
    return shared_address(&rings_.full[worker_][fill_]);
  }
  __device__ __forceinline__ void next_slot() {
    if (++fill_ == kTokenSlots) {
      fill_ = 0;
      turn_ ^= 1;
    }
  }
  /// 8 rows from `row` on, of the map's steps from `step` on.
  __device__ __forceinline__ void copy_rows(
      uint32_t to, const CUtensorMap* map, int row, int step, uint32_t barrier) const {
#if __CUDA_ARCH__ >= 900  // below, one_token() is never called
    asm volatile(
        "cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes"
        ".L2::cache_hint [%0], [%1, {%2, %3, %4}], [%5], %6;" ::"r"(to),
        "l"(map), "r"(0), "r"(row), "r"(step), "r"(barrier), "l"(once_)
        : "memory");
#endif
  }

  /// The group's halves of a BF16 matrix.
  __device__ __forceinline__ void feed_rows(const OneTokenLayer& layer, TokenPart part) {
    const TokenDeal halves = tables_.deal(args_, layer, part, worker_ / kChunks);
    const int begin = token_chunk_begin(halves.steps, chunk_);
    const int steps = feeds_ ? token_chunk_begin(halves.steps, chunk_ + 1) - begin : 0;
#pragma unroll 1
    for (int half = halves.first; half < halves.end; half += halves.next) {
      TokenMap which = part == TokenPart::kO ? TokenMap::kO : TokenMap::kDown;
      int row = half * 8;
      if (part == TokenPart::kQkv) {
        const OneTokenKind& kind = args_.kinds[layer.kind];
        const int q_rows = kind.q_heads * kind.head_dim;
        const int kv_rows = kind.kv_heads * kind.head_dim;
        which = TokenMap::kQ;
        if (row >= q_rows + kv_rows) {
          row -= q_rows + kv_rows;
          which = TokenMap::kV;
        } else if (row >= q_rows) {
          row -= q_rows;
          which = TokenMap::kK;
        }
      } else if (part == TokenPart::kGateUp) {
        which = worker_ / kChunks % 2 == 0 ? TokenMap::kGate : TokenMap::kUp;
      }
      const CUtensorMap* maps = layer.maps + static_cast<int>(which) * kStepsOfSlot - 1;
#pragma unroll 1
      for (int step = 0; step < steps; step += kStepsOfSlot) {
        const int count = min(kStepsOfSlot, steps - step);
        take();
        const uint32_t barrier = full();
        barrier_expect(barrier, count * kBlockBytes);
        copy_rows(slot(), maps + count, row, begin + step, barrier);
        next_slot();
      }
    }
    __syncwarp();
  }

  /// Rows of 64 components of a cache from `row` on, as many as the map has; zeros if it is below
  /// 0.
  __device__ __forceinline__ static void copy_positions(
      uint32_t to, const CUtensorMap* map, int component, int row, uint32_t barrier) {
#if __CUDA_ARCH__ >= 900
    asm volatile(
        "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes"
        " [%0], [%1, {%2, %3}], [%4];" ::"r"(to),
        "l"(map), "r"(component), "r"(row), "r"(barrier)
        : "memory");
#endif
  }

  /// Keys, then values, of each part of 64 positions: where TokenKvSlots says.
  __device__ __forceinline__ void feed_cache(const OneTokenLayer& layer) {
    const OneTokenKind& kind = args_.kinds[layer.kind];
    const TokenKvSlots slots(kind.head_dim);
    const TokenTask& task = tables_.tasks[layer.kind];
    const int32_t* kv_rows = tables_.kv_rows.of[layer.kind];
    const auto row_of = [&](int position) {
      if (kind.window > 0) return kv_rows[position];
      return task.first_part * kPart + position <= task.rows.last_seen
                 ? kv_rows[position / 16] + position % 16
                 : -1;
    };
    const int of_part = feeds_ ? 4 / slots.rings : 0;
    const int component = worker_ / slots.rings * 64;
#pragma unroll 1
    for (int n = 0; n < task.parts * of_part; ++n) {
      const int side = slots.rings == 4 ? worker_ / 2 % 2 : n % 2;
      const CUtensorMap* map = layer.maps + kMapsOfMatrices + side * kMapsOfCache;
      const int first = n / of_part * kPart + worker_ % 2 * kRowsOfSlot;
      take();
      const uint32_t barrier = full();
      barrier_expect(barrier, kSlotBytes);
#pragma unroll 1
      for (int at = 0; at < kRowsOfSlot;) {
        // As many as follow one another in the cache, or are not there, and a map takes.
        const int row = row_of(first + at);
        int map_of = 0;
        int rows = 1 << (kMapsOfCache - 1);
        static_assert(kMapsOfCache == 5);  // so that a run stays within 16
        const auto follow = [&] {
          const int last = row_of(first + at + rows - 1);
          return row < 0 ? last < 0 : last == row + rows - 1;
        };
        while (rows > 1 && (at % 16 + rows > 16 || !follow())) {
          rows /= 2;
          ++map_of;
        }
        copy_positions(slot() + at * kKvSliceBytes, map + map_of, component, row < 0 ? -16 : row,
                       barrier);
        at += rows;
      }
      next_slot();
    }
    __syncwarp();
  }

  /// `tiles` tiles of NVFP4, kTilesOfSlot to a slot, for the lane's worker.
  __device__ __forceinline__ void feed_tiles(const std::byte* from, int tiles) {
#pragma unroll 1
    for (; tiles > 0; tiles -= kTilesOfSlot, from += kTilesOfSlot * kTileBytes) {
      const uint32_t bytes = min(kTilesOfSlot, tiles) * kTileBytes;
      take();
      const uint32_t barrier = full();
      barrier_expect(barrier, bytes);
      copy_bulk(slot(), from, bytes, barrier, once_);
      next_slot();
    }
  }

  __device__ __forceinline__ void feed_experts(const OneTokenLayer& layer) {
    const TokenDeal bands = tables_.deal(args_, layer, TokenPart::kExperts, worker_ / kChunks);
    const int of_expert = args_.expert_width / 8;
    const int begin = token_chunk_begin(bands.steps, chunk_);
    const int steps = feeds_ ? token_chunk_begin(bands.steps, chunk_ + 1) - begin : 0;
#pragma unroll 1
    for (int item = bands.first; item < bands.end; item += bands.next) {
      const std::byte* from = tables_.choice.pointers[item / of_expert].gate;
      feed_tiles(from + (int64_t{item % of_expert} * bands.steps + begin) * kTileBytes, steps);
    }
    __syncwarp();
  }

  /// A worker has an expert, of one or the other of two bands.
  __device__ __forceinline__ void feed_experts_down(const OneTokenLayer& layer) {
    const TokenDeal bands = tables_.deal(args_, layer, TokenPart::kExpertsDown, 0);
    const int expert = worker_ % kTokenExperts;
    if (feeds_ && expert < args_.top_k) {
#pragma unroll 1
      for (int band = bands.first + worker_ / kTokenExperts * bands.next; band < bands.end;
           band += kBandsAtOnce * bands.next) {
        feed_tiles(tables_.choice.pointers[expert].down + int64_t{band} * bands.steps * kTileBytes,
                   bands.steps);
      }
    }
    __syncwarp();
  }

  const OneTokenArgs& args_;
  const TokenTables& tables_;
  TokenRings& rings_;
  const int first_;  // of its workers
  const int lane_;
  const bool feeds_;  // a worker: one of the first lanes does
  const int worker_;
  const int chunk_;
  const uint64_t once_;
  int fill_ = 0;  // the next slot of that worker
  uint32_t turn_ = 0;
};

}  // namespace facet::cuda
