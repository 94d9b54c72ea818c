#pragma once

// The inner loop of products of very many tokens, as tiled.cuh but with Hopper's wgmma: a warpgroup
// has 64 rows, whose fragments it decodes into registers, and all tokens of the tile, which the
// tensor cores read from shared memory. The same columns enter each instruction, in the same order,
// so the bits are those of mma().
//
//   stage: [kTokens][128] bytes of x in wide order, swizzled as wgmma wants; [kBands] bands of
//   weights
//
// Wide order: what a lane of mma() reads as 16 bytes (four words) of half a step is spread so that
// word w of lane i stands at word 4 w + i of the half.

#include "kernels/cuda/tiled.cuh"
#include "kernels/cuda/wgmma.cuh"

namespace facet::cuda {

/// Where the value at `position` of a format's order (position_of) stands in wide order.
__host__ __device__ constexpr int wide_position(int position) {
  const int lane = position % 32 / 8;
  const int word = position % 8 / 2;
  return position / 32 * 32 + word * 8 + lane * 2 + position % 2;
}

/// Writes 16 bytes of a token (`place`: F::place of the eight) in wide order.
__device__ __forceinline__ void store_wide(uint8_t* token, int place, const uint4& packed) {
  auto* half = reinterpret_cast<uint32_t*>(token + place / 4 * 64) + place % 4;
  half[0] = packed.x;
  half[4] = packed.y;
  half[8] = packed.z;
  half[12] = packed.w;
}

/// kGroups warpgroups, one below the other.
template <class F, int kGroupsT, int kTokensT, int kStagesT>
struct WideTiling {
  using Format = F;
  static constexpr int kGroups = kGroupsT;
  static constexpr int kStages = kStagesT;
  static constexpr int kTokens = kTokensT;
  static constexpr int kThreads = kGroups * 128;
  static constexpr int kBands = kGroups * 4;
  static constexpr int kRows = kBands * 16;
  static constexpr int kTokensAt = 0;
  static constexpr int kWeightsAt = kTokens * kStepBytesX;
  static constexpr int kStageBytes = (kWeightsAt + kBands * F::kBandBytes + 1023) / 1024 * 1024;
  static constexpr int kSumsBytes = kRows * kTokens * 4;
  static constexpr int kSharedBytes =
      (kStages * kStageBytes > kSumsBytes ? kStages * kStageBytes : kSumsBytes) +
      1024;  // to begin at 1024
  static_assert(kStages >= 3 && kSharedBytes <= 226 * 1024);

  __device__ __forceinline__ static int token_place(int u) {
    return u / 8 * 128 + (u % 8 ^ u / 8 % 8) * 16;
  }
};

/// Sums of one warp: fragments of mma() for each 8 tokens.
template <class T>
using WideSums = float[T::kTokens / 2];

/// The first multiple of 1024 in shared memory.
__device__ __forceinline__ uint8_t* wide_stages(uint8_t* shared) {
  return shared + (1024 - shared_address(shared) % 1024) % 1024;
}

/// Runs over steps [begin, end), whole chunks of K, and leaves the sum of theirs in `total`, added
/// in order. All threads of the CTA; work.tokens must be visible to them. kOneChunk: the steps are
/// of one chunk.
template <class T, bool kOneChunk>
__device__ __forceinline__ void multiply_wide(
    WideSums<T>& total, const uint8_t* stages, const TileWork& work, int begin, int end) {
  using F = typename T::Format;
  constexpr int kAhead = T::kStages - 2;  // one is read by products under way, one is next
  const int thread = threadIdx.x;
  const int lane = thread % 32;
  const int band = thread / 32;
  const uint64_t policy = evict_first();
  const int steps = work.w.steps;
  const uint32_t stages_at = shared_address(stages);

  StageCopier<T> copier;
  copier.seek(work, thread);
#pragma unroll
  for (int i = 0; i < kAhead; ++i) {
    if (begin + i < end)
      copier.copy(stages_at + i * T::kStageBytes, work, begin + i, thread, policy);
    copy_commit();
  }
  WideSums<T> own;
  WideSums<T>& sums = kOneChunk ? total : own;
#pragma unroll
  for (int i = 0; i < T::kTokens / 2; ++i) total[i] = sums[i] = 0.0F;
  int stage = 0;
  int fill = kAhead;
  const auto bring = [&](int step, uint32_t(&a)[4][4]) {
    copy_wait<kAhead - 1>();
    show_to_wgmma();
    __syncthreads();
    if (step + kAhead < end) {
      copier.copy(stages_at + fill * T::kStageBytes, work, step + kAhead, thread, policy);
    }
    copy_commit();
    if (++fill == T::kStages) fill = 0;
    Fragment weights[2];
    F::fragments(stages + stage * T::kStageBytes + T::kWeightsAt + band * F::kBandBytes, lane,
                 weights);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const Fragment& f = weights[i / 2];
      a[i][0] = f.low[i % 2 * 2];
      a[i][1] = f.high[i % 2 * 2];
      a[i][2] = f.low[i % 2 * 2 + 1];
      a[i][3] = f.high[i % 2 * 2 + 1];
    }
  };
  const auto start = [&](uint32_t(&a)[4][4], bool add) {
    const uint64_t tokens = token_descriptor(stages_at + stage * T::kStageBytes);
    if (++stage == T::kStages) stage = 0;
    wgmma_begin();
#pragma unroll
    for (int i = 0; i < 4; ++i)
      wgmma<T::kTokens>(sums, a[i][0], a[i][1], a[i][2], a[i][3], tokens + i * 2, i > 0 || add);
    wgmma_commit();
  };
  uint32_t even[4][4];
  uint32_t odd[4][4];
  int step = begin;
  int chunk = 0;
  while (chunk_begin(steps, chunk + 1) <= begin) ++chunk;
  while (step < end) {
    const int border = chunk_begin(steps, ++chunk);
    bring(step, even);
    for (bool add = false; step < border; add = true) {
      start(even, add);
      if (++step < border) bring(step, odd);
      wgmma_wait<0>();
      if (step >= border) break;
      start(odd, true);
      if (++step < border) bring(step, even);
      wgmma_wait<0>();
    }
    if constexpr (!kOneChunk) {
#pragma unroll
      for (int i = 0; i < T::kTokens / 2; ++i) total[i] = __fadd_rn(total[i], sums[i]);
    }
  }
  copy_wait<0>();
}

/// As for_each_fragment.
template <class T, class Body>
__device__ __forceinline__ void for_each_wide_fragment(const WideSums<T>& sums, const Body& body) {
  const int lane = threadIdx.x % 32;
  const int band = threadIdx.x / 32;
#pragma unroll
  for (int n = 0; n < T::kTokens / 8; ++n) {
    const float c[4] = {sums[4 * n], sums[4 * n + 1], sums[4 * n + 2], sums[4 * n + 3]};
    body(band * 16 + lane / 4, n * 8 + lane % 4 * 2, c);
  }
}

}  // namespace facet::cuda
