#pragma once

// The warps of one_token that fill the workers' rings.

#include "kernels/cuda/one_token_ring.cuh"

namespace facet::cuda {

/// The feeder of a group: fills the rings of its four workers. Copies of weights are asked for by
/// one lane each, those of positions by all.
class TokenFeeder {
 public:
  __device__ TokenFeeder(const OneTokenArgs& args,
                         const TokenTables& tables,
                         TokenRings& rings,
                         int group)
      : args_(args),
        tables_(tables),
        rings_(rings),
        place_(TokenSlot::of_group(group)),
        first_(group * kChunks),
        lane_(static_cast<int>(threadIdx.x) % kWarp),
        chunk_(lane_ % kChunks),
        once_(evict_first()) {}

  __device__ void run() {
    for (int index = 0; index < args_.count; ++index) {
      const OneTokenLayer& layer = tables_.layers[index % 2];
#pragma unroll 1
      for (int part = 0; part < static_cast<int>(TokenPart::kExperts); ++part) {
        if (static_cast<TokenPart>(part) == TokenPart::kCache) {
          feed_cache(layer);
        } else {
          feed_rows(layer, static_cast<TokenPart>(part));
        }
      }
      while (tables_.chosen <= index) {
      }
      __threadfence_block();
      __syncwarp();
      feed_experts();
      feed_experts_down();
    }
  }

 private:
  /// Waits until the next slot of the lane's worker has been read, and until no more than so many
  /// are on their way: what else asks memory for something would wait behind them.
  __device__ __forceinline__ void take() const {
    const bool wraps = fill_ < kSlotsInFlight;
    const int before = (wraps ? fill_ + kTokenSlots : fill_) - kSlotsInFlight;
    barrier_wait(shared_address(&rings_.full[first_ + chunk_][before]), wraps ? turn_ ^ 1 : turn_);
    barrier_wait(shared_address(&rings_.empty[first_ + chunk_][fill_]), turn_ ^ 1);
  }
  __device__ __forceinline__ uint32_t slot() const {
    return shared_address(rings_.slots[first_ + chunk_][fill_]);
  }
  __device__ __forceinline__ uint32_t full() const {
    return shared_address(&rings_.full[first_ + chunk_][fill_]);
  }
  __device__ __forceinline__ void next_slot() {
    if (++fill_ == kTokenSlots) {
      fill_ = 0;
      turn_ ^= 1;
    }
  }
  /// `bytes` of copies that this lane asks for will fill the slot: all arrivals at once.
  __device__ __forceinline__ static void expect(uint32_t barrier, uint32_t bytes) {
    barrier_expect(barrier, bytes);
#if __CUDA_ARCH__ >= 900
    asm volatile("mbarrier.arrive.shared.b64 _, [%0], %1;" ::"r"(barrier), "n"(kWarp - 1)
                 : "memory");
#endif
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

  /// Bands of a BF16 matrix, or of two.
  __device__ __forceinline__ void feed_rows(const OneTokenLayer& layer, TokenPart part) {
    const TokenBands bands = bands_of_part(args_, layer, part, place_.slots);
    const int begin = chunk_begin(bands.steps, chunk_);
    const int steps = lane_ < kChunks ? chunk_begin(bands.steps, chunk_ + 1) - begin : 0;
    const bool pairs = part == TokenPart::kGateUp;
#pragma unroll 1
    for (int band = bands.begin(place_.slot, place_.slots); band < bands.bands;
         band += bands.among) {
      TokenMap which = part == TokenPart::kO ? TokenMap::kO : TokenMap::kDown;
      int row = band * 16;
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
      } else if (pairs) {
        row = band * 8;
        which = TokenMap::kGate;
      }
      const int high_row = row + (pairs ? 0 : 8);
#pragma unroll 1
      for (int step = 0; step < steps; step += kStepsOfSlot) {
        const int count = min(kStepsOfSlot, steps - step);
        const CUtensorMap* low = layer.maps + static_cast<int>(which) * kStepsOfSlot + count - 1;
        const CUtensorMap* high = low + (pairs ? kStepsOfSlot : 0);
        take();
        const uint32_t barrier = full();
        const uint32_t to = slot();
        expect(barrier, count * 2 * kBlockBytes);
        copy_rows(to, low, row, begin + step, barrier);
        copy_rows(to + kHalfBytes, high, high_row, begin + step, barrier);
        next_slot();
      }
      __syncwarp();
    }
  }

  /// Of each part of 64 positions two slots of keys, two of values, in a worker's 64 components;
  /// units as RowRing::place().
  __device__ __forceinline__ void feed_cache(const OneTokenLayer& layer) {
    const OneTokenKind& kind = args_.kinds[layer.kind];
    const TokenTask& task = tables_.tasks[layer.kind];
    if (first_ * 64 >= kind.head_dim) return;
    const int32_t* kv_rows = tables_.kv_rows.of[layer.kind];
    const int row_bytes = kind.head_dim * 2;
    const int unit = lane_ % 8;
    // The lanes beyond the first four count along.
    fill_ = __shfl_sync(kAllLanes, fill_, chunk_);
    turn_ = __shfl_sync(kAllLanes, turn_, chunk_);
#pragma unroll 1
    for (int at = 0; at < task.parts * 4; ++at) {
      const int first = at / 4 * kPart + at % 2 * kRowsOfSlot;
      const std::byte* cache = at / 2 % 2 == 0 ? layer.k_cache : layer.v_cache;
      const uint8_t* from[kRowsOfSlot / 4];
      bool valid[kRowsOfSlot / 4];
#pragma unroll
      for (int i = 0; i < kRowsOfSlot / 4; ++i) {
        const int position = first + i * 4 + lane_ / 8;
        int there = -1;
        if (kind.window > 0) {
          there = kv_rows[position];
        } else if (task.first_part * kPart + position <= task.rows.last_seen) {
          there = kv_rows[position / 16] + position % 16;
        }
        valid[i] = there >= 0;
        from[i] = reinterpret_cast<const uint8_t*>(cache) + int64_t{max(there, 0)} * row_bytes +
                  unit * 16 + first_ * 128;
      }
      take();
      __syncwarp();
#pragma unroll 1
      for (int c = 0; c < kChunks; ++c) {
        const uint32_t to = __shfl_sync(kAllLanes, slot(), c);
        const uint32_t barrier = __shfl_sync(kAllLanes, full(), c);
#pragma unroll
        for (int i = 0; i < kRowsOfSlot / 4; ++i) {
          const int row = i * 4 + lane_ / 8;
          copy_async(to + row * 128 + ((unit ^ (row % 8)) * 16), from[i] + c * 128, valid[i]);
        }
        asm volatile("cp.async.mbarrier.arrive.noinc.shared.b64 [%0];" ::"r"(barrier) : "memory");
      }
      next_slot();
    }
  }

  /// `tiles` tiles of NVFP4, kTilesOfSlot to a slot, for the lane's worker.
  __device__ __forceinline__ void feed_tiles(const std::byte* from, int tiles) {
#pragma unroll 1
    for (; tiles > 0; tiles -= kTilesOfSlot, from += kTilesOfSlot * kTileBytes) {
      const uint32_t bytes = min(kTilesOfSlot, tiles) * kTileBytes;
      take();
      const uint32_t barrier = full();
      expect(barrier, bytes);
      copy_bulk(slot(), from, bytes, barrier, once_);
      next_slot();
    }
  }

  __device__ __forceinline__ void feed_experts() {
    const TokenBands bands =
        bands_of_part(args_, tables_.layers[0], TokenPart::kExperts, place_.slots);
    const int of_expert = args_.expert_width / 8;
    const int begin = chunk_begin(bands.steps, chunk_);
    const int steps = lane_ < kChunks ? chunk_begin(bands.steps, chunk_ + 1) - begin : 0;
#pragma unroll 1
    for (int item = bands.begin(place_.slot, place_.slots); item < bands.bands;
         item += bands.among) {
      const std::byte* from = tables_.choice.pointers[item / of_expert].gate;
      feed_tiles(from + (int64_t{item % of_expert} * bands.steps + begin) * kTileBytes, steps);
      __syncwarp();
    }
  }

  __device__ __forceinline__ void feed_experts_down() {
    const auto grid = static_cast<int>(gridDim.x);
    const TokenBands bands = bands_of_part(args_, tables_.layers[0], TokenPart::kExpertsDown, grid);
    const int expert = first_ + chunk_;
    if (lane_ < kChunks && expert < args_.top_k) {
#pragma unroll 1
      for (int band = bands.begin(static_cast<int>(blockIdx.x), grid); band < bands.bands;
           band += grid) {
        feed_tiles(tables_.choice.pointers[expert].down + int64_t{band} * bands.steps * kTileBytes,
                   bands.steps);
      }
    }
    __syncwarp();
  }

  const OneTokenArgs& args_;
  const TokenTables& tables_;
  TokenRings& rings_;
  const TokenSlot place_;
  const int first_;  // of its workers
  const int lane_;
  const int chunk_;  // whose worker the lane feeds: the first four lanes do
  const uint64_t once_;
  int fill_ = 0;  // the next slot of that worker
  uint32_t turn_ = 0;
};

}  // namespace facet::cuda
