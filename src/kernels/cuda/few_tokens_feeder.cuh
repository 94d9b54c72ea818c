#pragma once

// The warps of few_tokens that fill the workers' rings.

#include "kernels/cuda/few_tokens_ring.cuh"

namespace facet::cuda {

/// Fills the rings of kWorkersOfFeeder workers, a lane each.
template <int T>
class TokenFeeder {
 public:
  __device__ TokenFeeder(const FewTokensArgs& args,
                         const TokenTables<T>& tables,
                         TokenRings<T>& rings,
                         int feeder)
      : args_(args),
        tables_(tables),
        rings_(rings),
        feeds_(threadIdx.x % kWarp < kWorkersOfFeeder),
        worker_(feeder * kWorkersOfFeeder + static_cast<int>(threadIdx.x) % kWorkersOfFeeder),
        chunk_(worker_ % kChunks),
        once_(evict_first()) {}

  __device__ void run() {
    for (int index = 0; index < args_.count; ++index) {
      const FewTokensLayer& layer = tables_.layers[index % 2];
#pragma unroll 1
      for (int part = 0; part < static_cast<int>(TokenPart::kExpertsDown); ++part) {
        if (static_cast<TokenPart>(part) == TokenPart::kCache) {
          feed_cache(layer);
        } else if (static_cast<TokenPart>(part) == TokenPart::kExperts) {
          feed_experts(layer, index);
        } else {
          feed_rows(layer, static_cast<TokenPart>(part));
        }
      }
      feed_experts_down(layer);
    }
    if (has_head(args_)) feed_head();
  }

 private:
  static constexpr int kSlots = TokenSizes<T>::kSlots;
  static constexpr int kStepsOfSlot = TokenSizes<T>::kSteps;
  static constexpr int kTilesOfSlot = TokenSizes<T>::kTiles;
  static constexpr int kRowsOfSlot = TokenSizes<T>::kRows;
  static constexpr int kKvShares = TokenSizes<T>::kShares;

  /// Waits until the next slot of the lane's worker has been read, and, unless copies are alone,
  /// until no more than so many are on their way: what else asks memory for something would wait
  /// behind them.
  __device__ __forceinline__ void take() const {
    constexpr int kSlotsInFlight = TokenSizes<T>::kSlotsInFlight;
    const bool wraps = fill_ < kSlotsInFlight;
    const int before = (wraps ? fill_ + kSlots : fill_) - kSlotsInFlight;
    if (!alone_)
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
    if (++fill_ == kSlots) {
      fill_ = 0;
      turn_ ^= 1;
    }
  }
  /// 8 rows from `row` on, of the map's steps from `step` on.
  __device__ __forceinline__ void copy_rows(
      uint32_t to, const CUtensorMap* map, int row, int step, uint32_t barrier) const {
#if __CUDA_ARCH__ >= 900  // below, few_tokens() is never called
    asm volatile(
        "cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes"
        ".L2::cache_hint [%0], [%1, {%2, %3, %4}], [%5], %6;" ::"r"(to),
        "l"(map), "r"(0), "r"(row), "r"(step), "r"(barrier), "l"(once_)
        : "memory");
#endif
  }

  /// The group's halves of a BF16 matrix.
  __device__ __forceinline__ void feed_rows(const FewTokensLayer& layer, TokenPart part) {
    const TokenDeal halves = tables_.deal(args_, layer, part, worker_ / kChunks);
    const int begin = token_chunk_begin(halves.steps, chunk_);
    const int steps = feeds_ ? token_chunk_begin(halves.steps, chunk_ + 1) - begin : 0;
#pragma unroll 1
    for (int half = halves.first; half < halves.end; half += halves.next) {
      TokenMap which = part == TokenPart::kO ? TokenMap::kO : TokenMap::kDown;
      int row = half * 8;
      if (part == TokenPart::kQkv) {
        const FewTokensKind& kind = args_.kinds[layer.kind];
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
      feed_half(layer.maps + static_cast<int>(which) * kMapSteps, row, begin, steps);
    }
    __syncwarp();
  }
  /// 8 rows from `row` on, of `steps` steps from `begin` on: a chunk.
  __device__ __forceinline__ void feed_half(const CUtensorMap* maps,
                                            int row,
                                            int begin,
                                            int steps) {
#pragma unroll 1
    for (int step = 0; step < steps; step += kStepsOfSlot) {
      const int count = min(kStepsOfSlot, steps - step);
      take();
      const uint32_t barrier = full();
      barrier_expect(barrier, count * kBlockBytes);
      copy_rows(slot(), maps + count - 1, row, begin + step, barrier);
      next_slot();
    }
  }
  /// The group's halves of the head.
  __device__ __forceinline__ void feed_head() {
    const TokenDeal halves = deal_head(args_, worker_ / kChunks);
    const int begin = token_chunk_begin(halves.steps, chunk_);
    const int steps = feeds_ ? token_chunk_begin(halves.steps, chunk_ + 1) - begin : 0;
#pragma unroll 1
    for (int half = halves.first; half < halves.end; half += halves.next) {
      feed_half(args_.head.maps, half * 8, begin, steps);
      // The first fills the ring: when there is room for another, the CTA has heard all words.
      static_assert(kTokenHidden / kStep / kChunks > (kSlots - 1) * kStepsOfSlot);
      alone_ = true;
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

  /// Keys, then values, of each part of 64 positions: where TokenCells says.
  __device__ __forceinline__ void feed_cache(const FewTokensLayer& layer) {
    const FewTokensKind& kind = args_.kinds[layer.kind];
    const TokenCells<T> cells(kind.head_dim);
    const int component = cells.slice(worker_) * 64;
#pragma unroll 1
    for (int token = cells.cell(worker_); token < tokens_of<T>(args_); token += cells.cells()) {
      const TokenTask& task = tables_.tasks[layer.kind][token];
      const int32_t* kv_rows = tables_.kv_rows[layer.kind][token];
      const auto row_of = [&](int position) {
        if (kind.window > 0) return kv_rows[position];
        return task.first_part * kPart + position <= task.rows.last_seen
                   ? kv_rows[position / 16] + position % 16
                   : -1;
      };
      const int parts = feeds_ ? task.parts : 0;
#pragma unroll 1
      for (int n = cells.turn(worker_); n < parts * 2 * kKvShares; n += cells.rings()) {
        const int side = n / kKvShares % 2;
        const CUtensorMap* map = layer.maps + kMapsOfMatrices + side * kMapsOfCache;
        const int first = n / (2 * kKvShares) * kPart + n % kKvShares * kRowsOfSlot;
        take();
        const uint32_t barrier = full();
        barrier_expect(barrier, kRowsOfSlot * kKvSliceBytes);
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

  /// Once the layer's experts are chosen.
  __device__ __forceinline__ void feed_experts(const FewTokensLayer& layer, int index) {
    while (tables_.choice.known <= index) {
    }
    __threadfence_block();
    __syncwarp();
    const TokenDeal bands = tables_.deal(args_, layer, TokenPart::kExperts, worker_ / kChunks);
    const int of_expert = args_.expert_width / 8;
    const int end = tables_.choice.count * of_expert;
    const int begin = token_chunk_begin(bands.steps, chunk_);
    const int steps = feeds_ ? token_chunk_begin(bands.steps, chunk_ + 1) - begin : 0;
#pragma unroll 1
    for (int item = bands.first; item < end; item += bands.next) {
      const std::byte* from = tables_.choice.pointers[item / of_expert].gate;
      feed_tiles(from + (int64_t{item % of_expert} * bands.steps + begin) * kTileBytes, steps);
    }
    __syncwarp();
  }

  /// A worker has every so many-th of the experts' bands that are the CTA's: of one token
  /// kBandsAtOnce at a time, of several those of one band, then TokenSpread's.
  __device__ __forceinline__ void feed_experts_down(const FewTokensLayer& layer) {
    const TokenDeal bands = tables_.deal(args_, layer, TokenPart::kExpertsDown, 0);
    const int count = feeds_ ? tables_.choice.count : 0;
    const auto feed = [&](int expert, int band) {
      feed_tiles(tables_.choice.pointers[expert].down + int64_t{band} * bands.steps * kTileBytes,
                 bands.steps);
    };
    if constexpr (T == 1) {
#pragma unroll 1
      for (int base = bands.first; base < bands.end; base += kBandsAtOnce * bands.next) {
        const int of_expert = min(kBandsAtOnce, (bands.end - base + bands.next - 1) / bands.next);
#pragma unroll 1
        for (int item = worker_; item < count * of_expert; item += kTokenWorkers)
          feed(item / of_expert, base + item % of_expert * bands.next);
      }
    } else {
      const TokenSpread spread;
      const int end = count + (feeds_ ? spread.count(count) : 0);
#pragma unroll 1
      for (int item = worker_; item < end; item += kTokenWorkers) {
        const bool own = item < count;
        feed(own ? item : spread.expert(item - count),
             own ? bands.first : spread.band(item - count));
      }
    }
    __syncwarp();
  }

  const FewTokensArgs& args_;
  const TokenTables<T>& tables_;
  TokenRings<T>& rings_;
  const bool feeds_;  // a worker: one of the first lanes does
  const int worker_;
  const int chunk_;
  const uint64_t once_;
  int fill_ = 0;  // the next slot of that worker
  uint32_t turn_ = 0;
  bool alone_ = false;  // nobody waits for anything else that is read from memory
};

}  // namespace facet::cuda
