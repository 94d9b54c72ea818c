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
enum class TokenPart : int { kQkv, kCache, kO, kGateUp, kDown, kExperts, kExpertsDown };

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

}  // namespace facet::cuda
