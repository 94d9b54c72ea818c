#pragma once

// The inner loop of products of many tokens: tiles of rows x tokens, both operands brought to
// shared memory by asynchronous copies, kStages - 1 steps ahead. Same arithmetic, bit for bit, as
// linear_stream.cu: the same columns in each mma, steps in the same order, chunks of K summed apart
// and then added in order.
//
//   stage: [kBands][F::kBandBytes] weights, [2][kTokens][32] BF16 of x in F's order: 64 bytes a
//   token
//
// Both are read 16 bytes a lane without bank conflicts.

#include "kernels/cuda/steps.cuh"

namespace facet::cuda {

/// kDown x kAcross warps; each has kWarpBands bands of 16 rows and kWarpTokens * 8 tokens.
template <class F, int kDownT, int kAcrossT, int kWarpBandsT, int kWarpTokensT, int kStagesT>
struct Tiling {
  using Format = F;
  static constexpr int kDown = kDownT;
  static constexpr int kAcross = kAcrossT;
  static constexpr int kWarpBands = kWarpBandsT;
  static constexpr int kWarpTokens = kWarpTokensT;
  static constexpr int kStages = kStagesT;
  static constexpr int kThreads = kDown * kAcross * 32;
  static constexpr int kBands = kDown * kWarpBands;
  static constexpr int kRows = kBands * 16;
  static constexpr int kTokens = kAcross * kWarpTokens * 8;
  static constexpr int kWeightBytes = kBands * F::kBandBytes;
  static constexpr int kStageBytes = kWeightBytes + kTokens * kStepBytesX;
  static constexpr int kSharedBytes = kStages * kStageBytes;
  static constexpr int kWeightsAt = 0;
  static constexpr int kTokensAt = kWeightBytes;
  static_assert(kSharedBytes <= 226 * 1024);

  __device__ __forceinline__ static int token_place(int u) {
    return u % 8 / 4 * kTokens * 64 + u / 8 * 64 + u % 4 * 16;
  }
};

/// Sums of one warp: [band][8 tokens][fragment of mma].
template <class T>
using Sums = float[T::kWarpBands][T::kWarpTokens][4];

template <class T>
__device__ __forceinline__ void clear(Sums<T>& sums) {
#pragma unroll
  for (int m = 0; m < T::kWarpBands; ++m)
#pragma unroll
    for (int n = 0; n < T::kWarpTokens; ++n)
#pragma unroll
      for (int i = 0; i < 4; ++i) sums[m][n][i] = 0.0F;
}

template <class T>
__device__ __forceinline__ void add_sums(Sums<T>& to, const Sums<T>& sums) {
#pragma unroll
  for (int m = 0; m < T::kWarpBands; ++m)
#pragma unroll
    for (int n = 0; n < T::kWarpTokens; ++n)
#pragma unroll
      for (int i = 0; i < 4; ++i) to[m][n][i] = __fadd_rn(to[m][n][i], sums[m][n][i]);
}

/// One step of one warp. Blocks of 8 tokens from `blocks` on hold nothing and are left out.
template <class T>
__device__ __forceinline__ void tile_step(
    Sums<T>& sums, const uint8_t* stage, int down, int across, int lane, int blocks) {
  using F = typename T::Format;
  Fragment weights[T::kWarpBands][2];
#pragma unroll
  for (int m = 0; m < T::kWarpBands; ++m) {
    F::fragments(stage + (down * T::kWarpBands + m) * F::kBandBytes, lane, weights[m]);
  }
  const uint8_t* x =
      stage + T::kWeightBytes + (across * T::kWarpTokens * 8 + lane / 4) * 64 + lane % 4 * 16;
  // The next block's x is under way while one is multiplied, whether or not it will be wanted.
  uint4 tokens[2] = {load_shared(x), load_shared(x + T::kTokens * 64)};
#pragma unroll
  for (int n = 0; n < T::kWarpTokens; ++n) {
    const int next = n + 1 < T::kWarpTokens ? n + 1 : n;
    const uint4 ahead[2] = {load_shared(x + next * 512),
                            load_shared(x + T::kTokens * 64 + next * 512)};
    if (n < blocks) {
#pragma unroll
      for (int p = 0; p < 2; ++p) {
#pragma unroll
        for (int m = 0; m < T::kWarpBands; ++m) add_products(sums[m][n], weights[m][p], tokens[p]);
      }
    }
    tokens[0] = ahead[0];
    tokens[1] = ahead[1];
  }
}

/// What a CTA multiplies: bands [band, band + T::kBands) of w, and the tokens whose packed x begin
/// at the addresses in `tokens` (shared memory, [T::kTokens], 0: none).
struct TileWork {
  const BandSource& w;
  int band;
  const uint64_t* tokens;
  int count;  ///< of tokens
};

/// What one thread copies of every stage's weights, which stand at its beginning.
template <class T>
struct WeightCopier {
  using F = typename T::Format;
  static constexpr int kUnits = T::kBands * F::kUnits;
  static constexpr int kCount = (kUnits + T::kThreads - 1) / T::kThreads;
  UnitCursor units[kCount];

  __device__ __forceinline__ void seek(const TileWork& work, int thread) {
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      const int u = min(i * T::kThreads + thread, kUnits - 1);
      units[i] = F::unit(work.w, work.band + u / F::kUnits, u % F::kUnits);
    }
  }
  __device__ __forceinline__ void copy(
      uint32_t to, const TileWork& work, int step, int thread, uint64_t policy) const {
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      const int u = i * T::kThreads + thread;
      if ((i + 1) * T::kThreads <= kUnits || u < kUnits)
        copy_unit<F::kStepBytes>(to + u * 16, units[i], step, work.w, policy);
    }
  }
};

/// The same of the tokens' x: unit u % 8 of token u / 8 goes to T::token_place(u).
template <class T>
struct TokenCopier {
  static constexpr int kUnits = T::kTokens * 8;
  static constexpr int kCount = (kUnits + T::kThreads - 1) / T::kThreads;
  const uint8_t* units[kCount];  // null: no token there

  __device__ __forceinline__ void seek(const TileWork& work, int thread) {
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      const int u = i * T::kThreads + thread;
      const uint64_t from = u < kUnits ? work.tokens[u / 8] : 0;
      units[i] = from == 0 ? nullptr : reinterpret_cast<const uint8_t*>(from) + u % 8 * 16;
    }
  }
  __device__ __forceinline__ void copy(uint32_t to,
                                       const TileWork& work,
                                       int step,
                                       int thread) const {
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      const int u = i * T::kThreads + thread;
      const bool valid = units[i] != nullptr;
      if ((i + 1) * T::kThreads <= kUnits || u < kUnits) {
        copy_async(to + T::token_place(u), valid ? units[i] + step * kStepBytesX : work.w.lower,
                   valid);
      }
    }
  }
};

/// What one thread copies of every stage.
template <class T>
struct StageCopier {
  WeightCopier<T> weights;
  TokenCopier<T> tokens;

  __device__ __forceinline__ void seek(const TileWork& work, int thread) {
    weights.seek(work, thread);
    tokens.seek(work, thread);
  }
  __device__ __forceinline__ void copy(
      uint32_t stage, const TileWork& work, int step, int thread, uint64_t policy) const {
    weights.copy(stage + T::kWeightsAt, work, step, thread, policy);
    tokens.copy(stage + T::kTokensAt, work, step, thread);
  }
};

/// Runs over steps [begin, end), whole chunks of K, and leaves the sum of theirs in `total`, added
/// in order. All threads of the CTA; work.tokens must be visible to them.
template <class T>
__device__ __forceinline__ void multiply(
    Sums<T>& total, const uint8_t* shared, const TileWork& work, int begin, int end) {
  const int thread = threadIdx.x;
  const int lane = thread % 32;
  const int down = thread / 32 % T::kDown;
  const int across = thread / 32 / T::kDown;
  const int left = work.count - across * T::kWarpTokens * 8;
  const int blocks = left <= 0 ? 0 : (left + 7) / 8;
  const uint64_t policy = evict_first();
  const int steps = work.w.steps;
  const uint32_t shared_at = shared_address(shared);

  StageCopier<T> copier;
  copier.seek(work, thread);
  // Unrolled, or ptxas 13.0 puts the stage into a uniform register beside the copy's policy, in an
  // encoding that the GPU calls illegal.
#pragma unroll
  for (int i = 0; i < T::kStages - 1; ++i) {
    if (begin + i < end)
      copier.copy(shared_at + i * T::kStageBytes, work, begin + i, thread, policy);
    copy_commit();
  }
  Sums<T> sums;
  clear<T>(sums);
  clear<T>(total);
  int chunk = 0;
  while (chunk_begin(steps, chunk + 1) <= begin) ++chunk;
  int border = chunk_begin(steps, ++chunk);
  int stage = 0;
  int fill = T::kStages - 1;
  for (int step = begin; step < end; ++step) {
    copy_wait<T::kStages - 2>();
    __syncthreads();
    const int ahead = step + T::kStages - 1;
    if (ahead < end) copier.copy(shared_at + fill * T::kStageBytes, work, ahead, thread, policy);
    copy_commit();
    tile_step<T>(sums, shared + stage * T::kStageBytes, down, across, lane, blocks);
    if (++stage == T::kStages) stage = 0;
    if (++fill == T::kStages) fill = 0;
    if (step + 1 == border) {
      add_sums<T>(total, sums);
      clear<T>(sums);
      border = chunk_begin(steps, ++chunk);
    }
  }
  copy_wait<0>();
}

/// Calls body(row of the tile, token of the tile, four sums) for each fragment of the warp: sums 0,
/// 1 are of `row` and tokens `token`, `token` + 1, sums 2, 3 of row + 8.
template <class T, class Body>
__device__ __forceinline__ void for_each_fragment(const Sums<T>& sums, const Body& body) {
  const int lane = threadIdx.x % 32;
  const int down = threadIdx.x / 32 % T::kDown;
  const int across = threadIdx.x / 32 / T::kDown;
#pragma unroll
  for (int m = 0; m < T::kWarpBands; ++m) {
#pragma unroll
    for (int n = 0; n < T::kWarpTokens; ++n) {
      body((down * T::kWarpBands + m) * 16 + lane / 4,
           (across * T::kWarpTokens + n) * 8 + lane % 4 * 2, sums[m][n]);
    }
  }
}

}  // namespace facet::cuda
