#pragma once

// What a worker of few_tokens multiplies: the slots of its ring with x.

#include "kernels/cuda/few_tokens_ring.cuh"

namespace facet::cuda {

/// A thread's place, read anew where a part begins, as thread_now().
struct TokenPlace {
  const int lane = thread_now() % kWarp;
  const int warp = token_warp();
  const int chunk = warp % kChunks;
  const int group = warp / kChunks;
};

/// Sums of a group's chunks.
template <int T>
using TokenPartial = float[kChunks][16][T];

/// A row's sum over its chunks.
template <int T>
__device__ __forceinline__ float sum_chunks(const TokenPartial<T>& of, int row, int token) {
  float sum = 0.0F;
#pragma unroll
  for (int c = 0; c < kChunks; ++c) sum = __fadd_rn(sum, of[c][row][token]);
  return sum;
}

/// A lane's sums of a row, of the tokens whose columns it has.
template <int T>
__device__ __forceinline__ void store_sums(float (&of)[T], int lane, float first, float second) {
  const int token = lane % 4 * 2;
  if (token >= T) return;
  of[token] = first;
  if constexpr (T > 1) of[token + 1] = second;
}

/// Where a lane finds its token's row of x, rows being so many bytes long: columns beyond the
/// tokens get any.
template <int T>
__device__ __forceinline__ int row_of_x(int lane, int row_bytes) {
  return lane / 4 % T * row_bytes + lane % 4 * 16;
}

/// Rows of a half stand in a slot as the copies leave them: those of each step one after another,
/// 128 bytes each, whose unit u of row r is at u ^ r. So that a warp reads without bank conflicts,
/// its lanes' rows are the half's in this order.
__device__ __forceinline__ int row_of_lane(int lane) { return lane / 4 % 2 * 4 + lane / 8; }

/// Where a lane finds its row's units in a slot: that of fragment 0 of step s at + s * kBlockBytes;
/// that of fragment 1 the same with bit 6 turned.
__device__ __forceinline__ int unit_of_lane(int lane) {
  const int row = row_of_lane(lane);
  return row * 128 + ((lane % 4) ^ row) * 16;
}

/// Adds a slot's steps of 8 rows of BF16, the lower ones of a band. at: the lane's unit there.
template <int kMost>
__device__ __forceinline__ void add_slot(float (&sums)[4],
                                         const uint8_t* at,
                                         const uint8_t* x,
                                         int steps) {
  // Turned as an address of shared memory, which the compiler does not see through.
  const auto words_of = [&](int s, int p) {
    uint4 words;
    const uint32_t address = (shared_address(at) ^ (p * 64)) + s * kBlockBytes;
    asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(words.x), "=r"(words.y), "=r"(words.z), "=r"(words.w)
                 : "r"(address));
    return words;
  };
#pragma unroll
  for (int s = 0; s < kMost; ++s) {
    if (s > 0 && s >= steps) break;
#pragma unroll
    for (int p = 0; p < 2; ++p) {
      const uint4 words = words_of(s, p);
      const Fragment weights = {{words.x, words.y, words.z, words.w}, {}};
      add_products(sums, weights, load_shared(x + s * kStepBytesX + p * 64));
    }
  }
}

/// Adds kCount neighbouring tiles of NVFP4: products of one go on while the next is decoded.
/// present: how many there are, at least one; the others are read all the same, of what comes next.
template <int kCount>
__device__ __forceinline__ void add_some_tiles(
    float (&sums)[4], const uint8_t* tiles, const uint8_t* x, int lane, int present) {
  Nvfp4Steps::Words words[kCount];
  uint4 of_x[kCount][2];
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    words[i].load(tiles + i * kTileBytes, lane);
    of_x[i][0] = load_shared(x + i * kStepBytesX);
    of_x[i][1] = load_shared(x + i * kStepBytesX + 64);
  }
  Fragment weights[kCount][2];
#pragma unroll
  for (int i = 0; i < kCount; ++i) Nvfp4Steps::fragments(words[i], weights[i]);
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    if (i > 0 && i >= present) break;
    add_products(sums, weights[i][0], of_x[i][0]);
    add_products(sums, weights[i][1], of_x[i][1]);
  }
}

/// Adds `count` tiles of NVFP4 of a slot that has room for kMost, two at a time.
template <int kMost>
__device__ __forceinline__ void add_tiles(float (&sums)[4],
                                          const uint8_t* tiles,
                                          const uint8_t* x,
                                          int count) {
  constexpr bool kPairs = kMost % 2 == 0;  // an odd one at the end costs little
  const int lane = thread_now() % kWarp;
#pragma unroll 1
  for (; count > (kPairs ? 0 : 1); count -= 2, tiles += 2 * kTileBytes, x += 2 * kStepBytesX)
    add_some_tiles<2>(sums, tiles, x, lane, kPairs ? count : 2);
  if (!kPairs && count > 0) add_some_tiles<1>(sums, tiles, x, lane, 1);
}

}  // namespace facet::cuda
