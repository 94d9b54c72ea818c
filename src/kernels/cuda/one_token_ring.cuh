#pragma once

// What the worker warps of one_token read of weights, keys and values: rings in shared memory, one
// for each worker, which feeder warps fill in the order in which workers read, ahead of them over
// all that lies between: parts of layers, and layers. Only the experts' weights wait, until they
// are chosen.
//
// A slot holds four steps of 8 rows of BF16, half of a band (steps.cuh), or 32 positions of a
// cache, or kTilesOfSlot tiles of NVFP4. Four workers share a band or a half, a chunk of K each: a
// group; kTokenGroups of them a CTA. Every part deals its bands to the groups of all CTAs in turn.

#include "kernels/cuda/attention_ring.cuh"
#include "kernels/cuda/bulk.cuh"
#include "kernels/cuda/one_token.h"
#include "kernels/cuda/steps.cuh"

namespace facet::cuda {

inline constexpr int kTokenGroups = 4;
inline constexpr int kTokenWorkers = kTokenGroups * kChunks;
inline constexpr int kWorkerThreads = kTokenWorkers * kWarp;
inline constexpr int kFeeders = 2;
inline constexpr int kWorkersOfFeeder = kTokenWorkers / kFeeders;
inline constexpr int kFirstFeeder = kTokenWorkers;  // then a helper
inline constexpr int kHelper = kFirstFeeder + kFeeders;
inline constexpr int kTokenThreads = (kHelper + 1) * kWarp;
inline constexpr int kSlotsInFlight = 1;  // of a worker
inline constexpr int kTokenSlots = 3;     // of a worker's ring
inline constexpr int kSlotBytes = 4096;
inline constexpr int kStepsOfSlot = kMapSteps;
inline constexpr int kBlockBytes = 1024;  // of a step of 8 rows
inline constexpr int kRowsOfSlot = 32;    // positions of a cache
inline constexpr int kTilesOfSlot = 6;
inline constexpr int kBandsAtOnce = kTokenWorkers / kTokenExperts;  // of the experts' down product

/// The thread's number, read anew: what is computed from it is not kept over the layers, for which
/// there are no registers, and local memory is as far away as L2 here.
__device__ __forceinline__ int thread_now() {
  int thread;
  asm volatile("mov.u32 %0, %%tid.x;" : "=r"(thread));
  return thread;
}

/// The number of the thread's warp, the same register for all of its lanes.
__device__ __forceinline__ int token_warp() {
  return __shfl_sync(kAllLanes, thread_now() / kWarp, 0);
}

__device__ __forceinline__ void sync_workers() { bar_sync<1, kWorkerThreads>(); }
inline constexpr int kFirstGroup = 8;  // numbers of the groups' barriers
__device__ __forceinline__ void sync_group(int group) {
  asm volatile("bar.sync %0, %1;" ::"r"(kFirstGroup + group), "n"(kChunks * kWarp) : "memory");
}

/// Groups 2 * pair and the next.
__device__ __forceinline__ void sync_pair(int pair) {
  asm volatile("bar.sync %0, %1;" ::"r"(kFirstGroup + kTokenGroups + pair), "n"(2 * kChunks * kWarp)
               : "memory");
}

/// The experts of the layer under way.
struct TokenChoice {
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
enum class TokenPart : int { kQkv, kCache, kO, kGateUp, kExperts, kDown, kExpertsDown };
inline constexpr int kTokenParts = 7;

/// The bands of a part that a group has: `first`, then every `next`-th below `end`.
struct alignas(16) TokenDeal {
  int first;
  int end;
  int next;
  int steps;
};

/// The layers' tables, in shared memory.
struct TokenTables {
  OneTokenLayer layers[2];  // in turn
  TokenChoice choice;
  volatile int chosen;  // layers whose experts are chosen
  TokenTask tasks[OneTokenArgs::kKinds];
  TokenKvRows kv_rows;
  TokenDeal deals[OneTokenArgs::kKinds][kTokenParts][kTokenGroups];

  /// What a group has of a part; of kExpertsDown any of the CTA's, what the CTA has.
  __device__ __forceinline__ TokenDeal deal(const OneTokenArgs& args,
                                            const OneTokenLayer& layer,
                                            TokenPart part,
                                            int group) const {
    TokenDeal deal = deals[layer.kind][static_cast<int>(part)][group];
    const OneTokenKind& kind = args.kinds[layer.kind];
    if (part == TokenPart::kQkv && layer.v_is_k != 0) deal.end -= kind.kv_heads * kind.head_dim / 8;
    return deal;
  }
};

/// Deals a part's bands, of BF16 matrices halves of 8 rows, to the groups of all CTAs in turn:
/// those that are a CTA's first ones come first. Bands of experts count all chosen ones; of their
/// down product a CTA has whole bands, a warp an expert. Of gate and up two groups share 8 rows
/// each.
__device__ inline TokenDeal deal_part(const OneTokenArgs& args,
                                      const OneTokenKind& kind,
                                      TokenPart part,
                                      int group) {
  const auto grid = static_cast<int>(gridDim.x);
  const int slots = kTokenGroups * grid;
  const int q_halves = kind.q_heads * kind.head_dim / 8;
  const int kv_halves = kind.kv_heads * kind.head_dim / 8;
  const auto in_turn = [&](int bands, int steps, int place, int places, int first) {
    const int at = place < first ? place - first + places : place - first;
    const int among = part == TokenPart::kExpertsDown ? places : places - first;
    return TokenDeal{at < among ? at : bands, bands, among, steps};
  };
  const int block = static_cast<int>(blockIdx.x);
  const int place = group * grid + block;
  switch (part) {
    case TokenPart::kQkv:
      return in_turn(q_halves + 2 * kv_halves, args.hidden / kStep, place, slots, 0);
    case TokenPart::kO:
      return in_turn(args.hidden / 8, kind.q_heads * kind.head_dim / kStep, place, slots, 0);
    case TokenPart::kGateUp:
      return in_turn(args.dense_width / 8, args.hidden / kStep, group / 2 * grid + block, slots / 2,
                     0);
    case TokenPart::kExperts:
      return in_turn(args.expert_width / 8 * args.top_k, args.hidden / kStep, place, slots, 0);
    case TokenPart::kDown:  // for those who had the fewer experts
      return in_turn(args.hidden / 8, args.dense_width / kStep, place, slots, slots / 3);
    case TokenPart::kExpertsDown:  // likewise
      return in_turn(args.hidden / 16, args.expert_width / kStep, block, grid, grid / 3);
    default:
      return {};
  }
}

/// Where a chunk of `steps` steps begins: one_token_fits() has seen that there are kChunks.
__device__ __forceinline__ int token_chunk_begin(int steps, int chunk) {
  return steps * chunk / kChunks;
}

/// All workers' rings.
struct TokenRings {
  alignas(1024) uint8_t slots[kTokenWorkers][kTokenSlots][kSlotBytes];
  uint64_t full[kTokenWorkers][kTokenSlots];
  uint64_t empty[kTokenWorkers][kTokenSlots];
  int32_t at[kTokenWorkers];  // TokenRing::at() of each, where others read its ring

  /// One thread a slot, then a barrier of all.
  __device__ void init(int index) {
    if (index >= kTokenWorkers * kTokenSlots) return;
    barrier_init(shared_address(&full[0][0] + index));
    barrier_init(shared_address(&empty[0][0] + index));
  }
};

/// How rings take turns with the two slots of keys and two of values that a part of 64 positions
/// has in each slice of 64 components: so many workers' rings to a slice.
inline constexpr int kKvSliceBytes = 128;
struct TokenKvSlots {
  int rings;

  /// head_dim: 256 or 512.
  __device__ explicit TokenKvSlots(int head_dim) : rings(head_dim == 512 ? 2 : 4) {}

  /// Side: 0 keys, 1 values; half: positions 0 … 31 or 32 … 63. Among the slice's rings, and which
  /// of the part's slots there.
  __device__ int ring(int side, int half) const { return (side * 2 + half) & (rings - 1); }
  __device__ int nth(int side) const { return rings == 2 ? side : 0; }
};
static_assert(kTokenWorkers * 64 == 2 * 512);
/// Where unit u of row r of such a slot stands.
__device__ __forceinline__ int kv_place(int row, int unit) {
  return row * 128 + (unit ^ (row % 8)) * 16;
}

/// How many slots of a ring have been read, modulo two turns.
__device__ __forceinline__ int ring_after(int at, int slots) {
  at += slots;
  return at >= 2 * kTokenSlots ? at - 2 * kTokenSlots : at;
}

/// The slot of a worker's ring after `at` have been read, once it is there.
__device__ __forceinline__ const uint8_t* wait_for_slot(const TokenRings& rings,
                                                        int worker,
                                                        int at) {
  const int turn = at >= kTokenSlots ? 1 : 0;
  const int slot = at - turn * kTokenSlots;
  barrier_wait(shared_address(&rings.full[worker][slot]), turn);
  return rings.slots[worker][slot];
}

/// A worker's end of its ring.
class TokenRing {
 public:
  __device__ __forceinline__ TokenRing(TokenRings& rings, int worker)
      : rings_(rings), worker_(worker) {}

  /// The slot that comes n-th, once it is there.
  __device__ __forceinline__ const uint8_t* wait(int n = 0) const {
    return wait_for_slot(rings_, worker_, ring_after(at_, n));
  }
  /// The next slot has been read. One that threads wrote to needs show_to_copies() before.
  __device__ __forceinline__ void release() {
    __syncwarp();
    const int slot = at_ >= kTokenSlots ? at_ - kTokenSlots : at_;
    if (threadIdx.x % kWarp == 0)
      asm volatile(
          "mbarrier.arrive.shared.b64 _, [%0];" ::"r"(shared_address(&rings_.empty[worker_][slot]))
          : "memory");
    at_ = ring_after(at_, 1);
  }
  /// Of TokenRings::at.
  __device__ __forceinline__ int at() const { return at_; }

 private:
  TokenRings& rings_;
  const int worker_;
  int at_ = 0;
};

}  // namespace facet::cuda
