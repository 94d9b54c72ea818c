#pragma once

// What a worker of one_token multiplies: the slots of its ring with x.

#include "kernels/cuda/one_token_ring.cuh"

namespace facet::cuda {

/// A thread's place, read anew where a part begins, as thread_now().
struct TokenPlace {
  const int lane = thread_now() % kWarp;
  const int warp = token_warp();
  const int chunk = warp % kChunks;
  const int group = warp / kChunks;
};

/// A row's sum over its chunks.
__device__ __forceinline__ float sum_chunks(const float (&of)[kChunks][16], int lane) {
  float sum = 0.0F;
#pragma unroll
  for (int c = 0; c < kChunks; ++c) sum = __fadd_rn(sum, of[c][lane]);
  return sum;
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
  for (int s = 0; s < kStepsOfSlot; ++s) {
    if (s > 0 && s >= steps) break;
#pragma unroll
    for (int p = 0; p < 2; ++p) {
      const uint4 words = words_of(s, p);
      const Fragment weights = {{words.x, words.y, words.z, words.w}, {}};
      add_products(sums, weights, load_shared(x + s * kStepBytesX + p * 64));
    }
  }
}

/// Adds `count` tiles of NVFP4, two at a time: products of one go on while the other is decoded.
__device__ __forceinline__ void add_tiles(float (&sums)[4],
                                          const uint8_t* tiles,
                                          const uint8_t* x,
                                          int count) {
  const int lane = thread_now() % kWarp;
#pragma unroll 1
  for (; count > 0; count -= 2, tiles += 2 * kTileBytes, x += 2 * kStepBytesX) {
    Nvfp4Steps::Words words[2];
    uint4 of_x[2][2];
#pragma unroll
    for (int i = 0; i < 2; ++i) {  // the second is read even if there is none: of the slot's room
      words[i].load(tiles + i * kTileBytes, lane);
      of_x[i][0] = load_shared(x + i * kStepBytesX);
      of_x[i][1] = load_shared(x + i * kStepBytesX + 64);
    }
    Fragment weights[2][2];
#pragma unroll
    for (int i = 0; i < 2; ++i) Nvfp4Steps::fragments(words[i], weights[i]);
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      if (i >= count) break;
      add_products(sums, weights[i][0], of_x[i][0]);
      add_products(sums, weights[i][1], of_x[i][1]);
    }
  }
}
static_assert(kTilesOfSlot % 2 == 0 && kTilesOfSlot * kTileBytes <= kSlotBytes);

}  // namespace facet::cuda
