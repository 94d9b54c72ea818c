#pragma once

// What the worker warps of one_token read of weights, keys and values: rings in shared memory, one
// for each worker, which feeder warps fill in the order in which workers read, ahead of them over
// all that lies between: parts of layers, and layers. Only the experts' weights wait, until they
// are chosen.
//
// A slot holds 16 rows of 128 bytes twice, two steps of a band (steps.cuh) or 32 positions of a
// cache, or kTilesOfSlot tiles of NVFP4. Four workers share a band, a chunk of K each, and a
// feeder: a group; kTokenGroups of them a CTA. Every part deals its bands to the groups of all CTAs
// in turn.

#include "kernels/cuda/attention_ring.cuh"
#include "kernels/cuda/bulk.cuh"
#include "kernels/cuda/one_token.h"
#include "kernels/cuda/steps.cuh"

namespace facet::cuda {

inline constexpr int kTokenGroups = 2;
inline constexpr int kTokenWorkers = kTokenGroups * kChunks;
inline constexpr int kWorkerThreads = kTokenWorkers * kWarp;
inline constexpr int kFirstFeeder = kTokenWorkers;  // a feeder for each group, then a helper
inline constexpr int kHelper = kFirstFeeder + kTokenGroups;
inline constexpr int kTokenThreads = (kHelper + 1) * kWarp;
inline constexpr int kSlotsInFlight = 2;  // of a worker
inline constexpr int kTokenSlots = 6;     // of a worker's ring
inline constexpr int kSlotBytes = 4096;
inline constexpr int kStepsOfSlot = kMapSteps;
inline constexpr int kRowsOfSlot = 32;  // positions of a cache
inline constexpr int kTilesOfSlot = 6;

/// The number of the thread's warp, the same register for all of its lanes.
__device__ __forceinline__ int token_warp() {
  return __shfl_sync(kAllLanes, static_cast<int>(threadIdx.x) / kWarp, 0);
}

/// The experts of the layer under way.
struct TokenChoice {
  int32_t experts[kTokenExperts];
  float weights[kTokenExperts];
  ExpertPointers pointers[kTokenExperts];
};

/// What a CTA has of a kind of attention: pieces of one KV head's positions.
struct TokenTask {
  TileRows rows;
  RowPiece piece;
  int kv_head;
  int parts_a_piece;  // kParts
  int first_part;     // of what it walks over
  int parts;          // 0: it has none
  int pieces;         // of the whole row, and the first of them
  int first_piece;
  int fresh;  // the token's own position if it is among them, else -1
};

/// Rows of the cache, a CTA's: of each position of its part in a window (-1: not seen), of the
/// first of each 16 where there is no window.
struct TokenKvRows {
  int32_t of[2][kTokenKvRows];
};

/// What the parts of a layer are called.
enum class TokenPart : int { kQkv, kCache, kO, kGateUp, kDown, kExperts, kExpertsDown, kEnd };

/// The bands of a part, dealt to `among` slots in turn, from slot `first` on.
struct TokenBands {
  int bands = 0;
  int steps = 0;
  int first = 0;
  int among = 0;

  /// The first band of one of `slots` slots, the next is `among` further; `bands`: it has none.
  __device__ int begin(int slot, int slots) const {
    const int at = slot < first ? slot - first + slots : slot - first;
    return at < among ? at : bands;
  }
};

/// The layers' tables, in shared memory.
struct TokenTables {
  OneTokenLayer layers[2];  // in turn
  TokenChoice choice;
  volatile int chosen;  // layers whose experts are chosen
  TokenTask tasks[OneTokenArgs::kKinds];
  TokenKvRows kv_rows;
};

/// A group's place among those of all CTAs: those that are a CTA's first ones come first.
struct TokenSlot {
  int slot;
  int slots;

  __device__ static TokenSlot of_group(int group) {
    const auto grid = static_cast<int>(gridDim.x);
    return {group * grid + static_cast<int>(blockIdx.x), kTokenGroups * grid};
  }
};

/// Bands of a part. Those of experts count all chosen ones; of their down product a CTA has whole
/// bands, a warp an expert.
__device__ __forceinline__ TokenBands bands_of_part(const OneTokenArgs& args,
                                                    const OneTokenLayer& layer,
                                                    TokenPart part,
                                                    int slots) {
  const OneTokenKind& kind = args.kinds[layer.kind];
  const int q_bands = kind.q_heads * kind.head_dim / 16;
  const int kv_bands = kind.kv_heads * kind.head_dim / 16;
  switch (part) {
    case TokenPart::kQkv:
      return {q_bands + (layer.v_is_k != 0 ? 1 : 2) * kv_bands, args.hidden / kStep, 0, slots};
    case TokenPart::kO:
      return {args.hidden / 16, kind.q_heads * kind.head_dim / kStep, 0, slots};
    case TokenPart::kGateUp:
      return {args.dense_width / 8, args.hidden / kStep, 0, slots};
    case TokenPart::kDown: {  // for those who then have the fewer experts
      const int first = slots * 2 / 3;
      return {args.hidden / 16, args.dense_width / kStep, first, slots - first};
    }
    case TokenPart::kExperts:
      return {args.expert_width / 8 * args.top_k, args.hidden / kStep, 0, slots};
    case TokenPart::kExpertsDown:
      return {args.hidden / 16, args.expert_width / kStep, slots / 3, slots};
    default:
      return {};
  }
}

/// All workers' rings.
struct TokenRings {
  alignas(1024) uint8_t slots[kTokenWorkers][kTokenSlots][kSlotBytes];
  uint64_t full[kTokenWorkers][kTokenSlots];
  uint64_t empty[kTokenWorkers][kTokenSlots];

  /// One thread a slot, then a barrier of all.
  __device__ void init(int index) {
    if (index >= kTokenWorkers * kTokenSlots) return;
    const uint32_t of_full = shared_address(&full[0][0] + index);
    asm volatile("mbarrier.init.shared.b64 [%0], %1;" ::"r"(of_full), "r"(kWarp) : "memory");
    barrier_init(shared_address(&empty[0][0] + index));
  }
};

/// A worker's end of its ring.
class TokenRing {
 public:
  __device__ __forceinline__ TokenRing(TokenRings& rings, int worker)
      : at_(rings.slots[worker][0]),
        full_(shared_address(rings.full[worker])),
        empty_(shared_address(rings.empty[worker])) {}

  /// The slot that comes n-th, once it is there.
  __device__ __forceinline__ const uint8_t* wait(int n = 0) const {
    int slot = use_ + n;
    uint32_t turn = turn_;
    if (slot >= kTokenSlots) {
      slot -= kTokenSlots;
      turn ^= 1;
    }
    barrier_wait(full_ + slot * 8, turn);
    return at_ + slot * kSlotBytes;
  }
  /// The next slot has been read. One that threads wrote to needs show_to_copies() before.
  __device__ __forceinline__ void release() {
    __syncwarp();
    if (threadIdx.x % kWarp == 0)
      asm volatile("mbarrier.arrive.shared.b64 _, [%0];" ::"r"(empty_ + use_ * 8) : "memory");
    if (++use_ == kTokenSlots) {
      use_ = 0;
      turn_ ^= 1;
    }
  }

 private:
  const uint8_t* at_;
  const uint32_t full_;
  const uint32_t empty_;
  int use_ = 0;
  uint32_t turn_ = 0;
};

/// Rows of a band stand in a slot as the copies leave them: those of either half one after another,
/// 128 bytes each, whose unit u of row r is at u ^ r. So that a warp reads without bank conflicts,
/// its lanes' rows g are the halves' rows in this order.
__device__ __forceinline__ int row_of_lane(int lane) { return lane / 4 % 2 * 4 + lane / 8; }

/// Where a lane finds its rows' units in a slot: step s and half h at + s * kBlockBytes + h *
/// kHalfBytes, of fragment 0; of fragment 1 the same with bit 6 turned.
inline constexpr int kBlockBytes = 1024;
inline constexpr int kHalfBytes = kStepsOfSlot * kBlockBytes;
__device__ __forceinline__ int unit_of_lane(int lane) {
  const int row = row_of_lane(lane);
  return row * 128 + ((lane % 4) ^ row) * 16;
}

/// Both fragments of both steps of a BF16 band, whose rows are row_of_lane()'s.
struct SlotFragments {
  Fragment of[kStepsOfSlot][2];

  /// unit: unit_of_lane().
  __device__ __forceinline__ void load(const uint8_t* slot, int unit) {
#pragma unroll
    for (int s = 0; s < kStepsOfSlot; ++s) {
#pragma unroll
      for (int p = 0; p < 2; ++p) {
        const uint8_t* at = slot + (unit ^ (p * 64)) + s * kBlockBytes;
        const uint4 low = load_shared(at);
        const uint4 high = load_shared(at + kHalfBytes);
        of[s][p] = {{low.x, low.y, low.z, low.w}, {high.x, high.y, high.z, high.w}};
      }
    }
  }
};

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
