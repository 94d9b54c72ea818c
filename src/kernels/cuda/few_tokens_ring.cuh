#pragma once

// What the worker warps of few_tokens read of weights, keys and values: rings in shared memory, one
// for each worker, which feeder warps fill in the order in which workers read, ahead of them over
// all that lies between: parts of layers, and layers. Only the experts' weights wait, until they
// are chosen.
//
// A slot holds some steps of 8 rows of BF16, half of a band (steps.cuh), or 16 or 32 positions of a
// cache, or some tiles of NVFP4 (TokenSizes). Four workers share a band or a half, a chunk of K
// each: a group; kTokenGroups of them a CTA. Every part deals its bands to the groups of all CTAs
// in turn.

#include "kernels/cuda/attention_ring.cuh"
#include "kernels/cuda/bulk.cuh"
#include "kernels/cuda/few_tokens.h"
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
inline constexpr int kBlockBytes = 1024;  // of a step of 8 rows
inline constexpr int kBandsAtOnce = 2;    // of the experts' down product

/// What depends on the tokens that a launch is for, up to T: 1, 2, 4 or 8.
template <int T>
struct TokenSizes {
  static constexpr int kSlotBytes = T == 1 ? 4096 : 2048;
  static constexpr int kSlots = T == 1 ? 3 : T == 2 ? 5 : T == 4 ? 4 : 2;  // of a worker's ring
  static constexpr int kSlotsInFlight = T == 1 ? 1 : 2;                    // of a worker
  static constexpr int kSteps = kSlotBytes / kBlockBytes;                  // of a slot
  static constexpr int kTiles = T == 1 ? 6 : 3;                            // of a slot
  static constexpr int kRows = T == 1 ? 32 : 16;  // positions of a cache in a slot
  static constexpr int kShares = kPart / kRows;   // slots of a part's keys, or of its values
  static_assert(kSteps <= kMapSteps && kTiles * kTileBytes <= kSlotBytes);
  static constexpr int kKvRows = token_kv_rows(T);
  static constexpr int kPairs = T * kTokenExperts;  // of a token and an expert
  static constexpr int kTogether = T == 1 ? 1 : 2;  // tokens that are heard at once
  static constexpr int kRoomPad = T == 1 ? 0 : 64;  // rows of x in other banks
  static constexpr int kCells = T < 4 ? T : 4;      // TokenCells::cells() of heads of 256
  /// Bytes of a row of x in scratch.
  __host__ __device__ static constexpr int row_bytes(int cols) { return cols * 2 + kRoomPad; }

  // Places in scratch: x of the dense branch, of the experts, and of the router.
  static constexpr int kExpertsX = T * (kTokenHidden * 2 + kRoomPad);
  static constexpr int kRouterZ = 2 * kExpertsX;
  static constexpr int kScratch = kRouterZ + kTogether * kTokenHidden * 4;
  /// Rounds in which o's x comes, each the next part of all chunks.
  static constexpr int kRounds = T * (kTokenHeadRows * 2 + kRoomPad) <= kScratch ? 1 : 2;
  static_assert(T * (kTokenHeadRows / kRounds * 2 + kRoomPad) <= kScratch);
  static_assert(kPairs * kTokenWidthSteps * kStepBytesX <= kScratch);
};

/// The thread's number, read anew: what is computed from it is not kept over the layers, for which
/// there are no registers, and local memory is as far away as L2 here.
__device__ __forceinline__ int thread_now() {
  int thread;
  asm volatile("mov.u32 %0, %%tid.x;" : "=r"(thread));
  return thread;
}

/// A value in shared memory, likewise.
__device__ __forceinline__ int read_anew(const int& value) {
  return *const_cast<const volatile int*>(&value);
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

/// The place-th `warps` workers: two, a group, a pair of them, or all. Twos have the numbers of
/// groups, and so have to themselves what lies between two barriers of all.
__device__ __forceinline__ void sync_warps(int warps, int place) {
  const int first = warps == kTokenWorkers ? 1
                    : warps == 2 * kChunks ? kFirstGroup + kTokenGroups
                                           : kFirstGroup;
  asm volatile("bar.sync %0, %1;" ::"r"(first + place), "r"(warps * kWarp) : "memory");
}

/// The step's tokens.
template <int T>
__device__ __forceinline__ int tokens_of(const FewTokensArgs& args) {
  return T == 1 ? 1 : args.tokens;
}

/// The experts of the layer under way: those that any token chose, in the order of tokens and of
/// their choices.
template <int T>
struct TokenChoice {
  static constexpr uint8_t kNone = 0xff;
  static constexpr int kMost = TokenSizes<T>::kPairs;
  float weights[T][kTokenExperts];
  ExpertPointers pointers[kMost];
  int chosen[T][kTokenExperts];                     // by each token
  int count;                                        // of the list
  alignas(8) uint8_t pair_of[kMost][8];             // of an expert and a token; kNone
  alignas(4) uint8_t place_of[kMostStreamExperts];  // of an expert in the list; kNone
  volatile int known;                               ///< layers whose list is made
};

/// What a CTA has of a kind of attention: pieces of one KV head's positions.
struct TokenTask {
  TileRows rows;
  RowPiece piece;
  int parts_a_piece;  // kParts
  int first_part;     // of what it walks over
  int parts;          // 0: it has none
  int pieces;         // of the whole row, and the first of them
  int first_piece;
  int fresh;  // the token's own position if it is among them, else -1
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
template <int T>
struct TokenTables {
  FewTokensLayer layers[2];  // in turn
  TokenChoice<T> choice;
  TokenTask tasks[FewTokensArgs::kKinds][T];
  /// Rows of the cache, a CTA's: of each position of its part in a window (-1: not seen), of the
  /// first of each 16 where there is no window.
  int32_t kv_rows[FewTokensArgs::kKinds][T][TokenSizes<T>::kKvRows];
  TokenDeal deals[FewTokensArgs::kKinds][kTokenParts][kTokenGroups];

  /// What a group has of a part; of kExpertsDown any of the CTA's, what the CTA has.
  __device__ __forceinline__ TokenDeal deal(const FewTokensArgs& args,
                                            const FewTokensLayer& layer,
                                            TokenPart part,
                                            int group) const {
    TokenDeal deal = deals[layer.kind][static_cast<int>(part)][group];
    const FewTokensKind& kind = args.kinds[layer.kind];
    if (part == TokenPart::kQkv && layer.v_is_k != 0) deal.end -= kind.kv_heads * kind.head_dim / 8;
    if (part == TokenPart::kDown) {  // for those first who had the fewer experts
      const int taken = choice.count * (args.expert_width / 8);
      const int at = deal.first - taken % deal.next;
      deal.first = at < 0 ? at + deal.next : at;
    }
    return deal;
  }
};

/// Deals a part's bands, of BF16 matrices halves of 8 rows, to the groups of all CTAs in turn:
/// those that are a CTA's first ones come first. Bands of experts are without end here; of their
/// down product a CTA has whole bands. Of gate and up two groups share 8 rows each.
__device__ inline TokenDeal deal_part(const FewTokensArgs& args,
                                      const FewTokensKind& kind,
                                      TokenPart part,
                                      int group) {
  const auto grid = static_cast<int>(gridDim.x);
  const int slots = kTokenGroups * grid;
  const int q_halves = kind.q_heads * kind.head_dim / 8;
  const int kv_halves = kind.kv_heads * kind.head_dim / 8;
  const auto in_turn = [&](int bands, int steps, int place, int places, int first) {
    const int at = place < first ? place - first + places : place - first;
    return TokenDeal{at, bands, places, steps};
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
      return {place, 0, slots, args.hidden / kStep};
    case TokenPart::kDown:
      return in_turn(args.hidden / 8, args.dense_width / kStep, place, slots, 0);
    case TokenPart::kExpertsDown:  // for those who had the fewer experts, if one token chose
      return in_turn(args.hidden / 16, args.expert_width / kStep, block, grid, grid / 3);
    default:
      return {};
  }
}

__host__ __device__ __forceinline__ bool has_head(const FewTokensArgs& args) {
  return args.head.logits != nullptr;
}
/// The halves of the head's matrix that a group has, in turn.
__device__ __forceinline__ TokenDeal deal_head(const FewTokensArgs& args, int group) {
  const auto grid = static_cast<int>(gridDim.x);
  return {group * grid + static_cast<int>(blockIdx.x), args.head.rows / 8, kTokenGroups * grid,
          args.hidden / kStep};
}

/// The bands of the experts' down product that are beyond one for each CTA, where several tokens'
/// experts are many: an expert's band goes to all CTAs in turn, and whoever settles the token's
/// stream adds up what its experts gave.
struct TokenSpread {
  const int grid = static_cast<int>(gridDim.x);
  const int bands = kTokenHidden / 16 - grid;

  /// The first of their rows.
  __device__ int first_row() const { return grid * 16; }
  /// How many a CTA has of `experts` experts, and the n-th of them.
  __device__ int count(int experts) const {
    return (experts * bands - static_cast<int>(blockIdx.x) + grid - 1) / grid;
  }
  __device__ int expert(int n) const { return (static_cast<int>(blockIdx.x) + n * grid) / bands; }
  __device__ int band(int n) const {
    return grid + (static_cast<int>(blockIdx.x) + n * grid) % bands;
  }
};

/// Where a chunk of `steps` steps begins: few_tokens_fit() has seen that there are kChunks.
__device__ __forceinline__ int token_chunk_begin(int steps, int chunk) {
  return steps * chunk / kChunks;
}

/// All workers' rings.
template <int T>
struct TokenRings {
  static constexpr int kSlots = TokenSizes<T>::kSlots;
  alignas(1024) uint8_t slots[kTokenWorkers][kSlots][TokenSizes<T>::kSlotBytes];
  uint64_t full[kTokenWorkers][kSlots];
  uint64_t empty[kTokenWorkers][kSlots];
  int32_t at[kTokenWorkers];  // TokenRing::at() of each, where others read its ring

  /// One thread a slot, then a barrier of all.
  __device__ void init(int index) {
    if (index >= kTokenWorkers * kSlots) return;
    barrier_init(shared_address(&full[0][0] + index));
    barrier_init(shared_address(&empty[0][0] + index));
    show_to_copies();
  }
  /// How many slots of a ring have been read, modulo two turns, once `slots` more are.
  __device__ __forceinline__ static int after(int at, int slots) {
    at += slots;
    return at >= 2 * kSlots ? at - 2 * kSlots : at;
  }
  /// The slot of a worker's ring after `at` have been read, once it is there.
  __device__ __forceinline__ const uint8_t* wait(int worker, int at) const {
    const int turn = at >= kSlots ? 1 : 0;
    const int slot = at - turn * kSlots;
    barrier_wait(shared_address(&full[worker][slot]), turn);
    return slots[worker][slot];
  }
};

/// How the workers of a CTA share a kind's positions: in cells that take tokens in turn, a cell's
/// rings in slices of 64 components, and a slice's rings in turn with its slots: those of keys of a
/// part of 64 positions, then those of values.
inline constexpr int kKvSliceBytes = 128;
template <int T>
struct TokenCells {
  bool wide;  // heads of 512, not of 256

  __device__ explicit TokenCells(int head_dim) : wide(head_dim == 512) {}
  __device__ int cells() const { return wide ? 1 : 1 << kBits; }
  __device__ int warps() const { return kTokenWorkers >> (wide ? 0 : kBits); }  // of a cell
  __device__ int ring_bits() const { return wide ? 1 : 2 - kBits; }
  __device__ int rings() const { return 1 << ring_bits(); }  // of a slice
  /// A worker's cell, its place there, its slice of the cell, and its turn among the slice's rings.
  __device__ int cell(int warp) const { return wide ? 0 : warp >> (4 - kBits); }
  __device__ int place(int warp) const { return warp & (warps() - 1); }
  __device__ int slice(int warp) const { return place(warp) >> ring_bits(); }
  __device__ int turn(int warp) const { return warp & (rings() - 1); }

 private:
  static constexpr int kBits = T == 1 ? 0 : T == 2 ? 1 : 2;  // of the cells for heads of 256
};
static_assert(kTokenWorkers == 16);
static_assert(kTokenWorkers * 64 == 2 * 512);
/// Where unit u of row r of such a slot stands.
__device__ __forceinline__ int kv_place(int row, int unit) {
  return row * 128 + (unit ^ (row % 8)) * 16;
}

/// A worker's end of its ring.
template <int T>
class TokenRing {
 public:
  __device__ __forceinline__ TokenRing(TokenRings<T>& rings, int worker)
      : rings_(rings), worker_(worker) {}

  /// The slot that comes n-th, once it is there.
  __device__ __forceinline__ const uint8_t* wait(int n = 0) const {
    return rings_.wait(worker_, TokenRings<T>::after(at_, n));
  }
  /// The next slot has been read. One that threads wrote to needs show_to_copies() before.
  __device__ __forceinline__ void release() {
    __syncwarp();
    constexpr int kSlots = TokenSizes<T>::kSlots;
    const int slot = at_ >= kSlots ? at_ - kSlots : at_;
    if (threadIdx.x % kWarp == 0)
      asm volatile(
          "mbarrier.arrive.shared.b64 _, [%0];" ::"r"(shared_address(&rings_.empty[worker_][slot]))
          : "memory");
    at_ = TokenRings<T>::after(at_, 1);
  }
  /// Of TokenRings::at.
  __device__ __forceinline__ int at() const { return at_; }

 private:
  TokenRings<T>& rings_;
  const int worker_;
  int at_ = 0;
};

}  // namespace facet::cuda
