#pragma once

// Products of up to 16 tokens: bound by the bytes of w.
//
// A CTA has kGroups bands of 16 rows under way; four warps share a band, one for each chunk of K.
// Every warp streams its rows through a ring of its own in shared memory: a lane copies what it
// will read itself, so nothing but the ends of chunks wait for other warps, and the ring runs on
// into the warp's next band. Weights are asked for before the kernel waits for the one before it;
// the rings take less than half of an SM's shared memory, so that they fill while that one runs.
//
//   ring     [warps][stages][kBandBytes]
//   partial  [2][groups][kChunks][8 or 16 tokens][16 rows] float: sums of chunks, two bands in turn
//   x        [tokens][steps * 128 + 64 or so] BF16 in F's order; rows start 64 bytes apart in banks

#include "kernels/cuda/activation.cuh"
#include "kernels/cuda/linear_kernels.h"
#include "kernels/cuda/out_scale.cuh"
#include "kernels/cuda/steps.cuh"

namespace facet::cuda {

inline constexpr int kTokenPartial = 8 * 16;  // of each 8 tokens
inline constexpr int kGroupThreads = kChunks * kWarp;

/// x_pitch for both sides.
__host__ __device__ constexpr int pitch_of(int steps) { return steps * kStepBytesX + 64; }
static_assert(pitch_of(44) == x_pitch(44));

/// Stages of each warp's ring. More than a chunk of a band has steps would gain nothing.
template <class F, int kGroups>
constexpr int stream_stages() {
  const int room = (kGroups == 4 ? 96 : 80) * 1024;
  const int stages = room / (kGroups * kChunks * F::kBandBytes);
  return stages < 16 ? stages : 16;
}
template <class F, int kGroups>
constexpr int kStreamStages = stream_stages<F, kGroups>();

template <class F, int kGroups, int kStages>
constexpr int kStreamRing = kGroups* kChunks* kStages* F::kBandBytes;
template <int kGroups, int kBlocks>
constexpr int kStreamPartial =
    2 * kGroups* kChunks* kBlocks* kTokenPartial* static_cast<int>(sizeof(float));

/// Waits for the four warps of a group. Written out: a barrier with a number unknown to the
/// compiler takes all sixteen.
__device__ __forceinline__ void sync_group(int group) {
  switch (group) {
    case 0:
      return bar_sync<1, kGroupThreads>();
    case 1:
      return bar_sync<2, kGroupThreads>();
    case 2:
      return bar_sync<3, kGroupThreads>();
    default:
      return bar_sync<4, kGroupThreads>();
  }
}

/// The part that a band of all belongs to; `band` becomes its number there.
__device__ __forceinline__ const StreamPart& part_of(const StreamWork& work, int& band) {
  int part = 0;
  while (part + 1 < work.count && band >= work.parts[part].w.bands)
    band -= work.parts[part++].w.bands;
  return work.parts[part];
}

/// The finished sums of a band, by the threads of its group.
template <int kBlocks>
__device__ __forceinline__ void store_band(const StreamWork& work,
                                           int band,
                                           const float* partial,
                                           int chunks) {
  const StreamPart& part = part_of(work, band);
  const int from_row = threadIdx.x % 16;
  const auto total = [&](const float* from) {
    float sum = 0.0F;
    for (int c = 0; c < chunks; ++c) sum = __fadd_rn(sum, from[c * kBlocks * kTokenPartial]);
    return sum;
  };
#pragma unroll
  for (int b = 0; b < kBlocks; ++b) {
    const int element = b * kGroupThreads + threadIdx.x % kGroupThreads;  // token * 16 + row
    const int token = element / 16;
    if (token >= work.tokens) continue;
    float* out = part.out + int64_t{token} * part.rows;
    if (!work.gated) {
      const int row = band * 16 + from_row;
      if (row < part.rows) out[row] = apply_scale(part.scale, total(partial + element), row);
    } else {
      const int row = band * 8 + from_row;
      if (from_row >= 8 || row >= part.rows) continue;
      const float gate = apply_scale(part.scale, total(partial + element), row);
      const float up = apply_scale(part.upper_scale, total(partial + element + 8), row);
      out[row] = __fmul_rn(apply(work.function, gate), up);
    }
  }
}

/// Bands block, block + blocks, … times kGroups of all. `stage(x)` waits for the previous kernel
/// and puts the rounded x there, in all threads of the CTA, those beyond the groups included.
template <class F, int kBlocks, int kGroups, int kStages, class Stage>
__device__ __forceinline__ void stream_bands(const StreamWork& work,
                                             int bands,
                                             int block,
                                             int blocks,
                                             uint8_t* shared,
                                             const Stage& stage_in) {
  const int warp = threadIdx.x / kWarp;
  const int lane = threadIdx.x % kWarp;
  const int chunk = warp % kChunks;
  const int group = warp / kChunks;
  const int steps = work.parts[0].w.steps;
  const int chunks = chunks_of(steps);
  const bool works = group < kGroups && chunk < chunks;
  const int begin = works ? chunk_begin(steps, chunk) : 0;
  const int end = works ? chunk_begin(steps, chunk + 1) : 0;
  const int stride = blocks * kGroups;
  const int first = block * kGroups + group;

  const uint8_t* ring = shared + (group < kGroups ? warp : 0) * kStages * F::kBandBytes;
  const uint32_t ring_at = shared_address(ring);
  auto* partial = reinterpret_cast<float*>(shared + kStreamRing<F, kGroups, kStages>);
  constexpr int kPartials = kBlocks * kTokenPartial;
  uint8_t* x = shared + kStreamRing<F, kGroups, kStages> + kStreamPartial<kGroups, kBlocks>;
  const uint64_t policy = evict_first();

  int next_band = first;
  int next_step = begin;
  int next_stage = 0;
  LaneUnits<F> units;
  const uint8_t* somewhere = work.parts[0].w.lower;
  const auto seek = [&] {
    if (next_band >= bands) return;
    int band = next_band;
    const StreamPart& part = part_of(work, band);
    units.seek(part.w, band, lane);
  };
  seek();
  const auto issue = [&] {
    if (next_band < bands && begin < end) {
      units.copy(ring_at + next_stage * F::kBandBytes, somewhere, next_step, lane, policy);
      if (++next_step == end) {
        next_step = begin;
        next_band += stride;
        seek();
      }
      if (++next_stage == kStages) next_stage = 0;
    }
    copy_commit();
  };
#pragma unroll
  for (int i = 0; i < kStages; ++i) issue();

  stage_in(x);
  if (group >= kGroups) return;

  // Lanes of tokens that are not there compute the last one once more; nobody reads it.
  const uint8_t* x_at[kBlocks];
#pragma unroll
  for (int b = 0; b < kBlocks; ++b)
    x_at[b] = x + min(b * 8 + lane / 4, work.tokens - 1) * pitch_of(steps) + lane % 4 * 16;
  int stage = 0;
  int parity = 0;
  for (int band = first; band < bands; band += stride, parity ^= 1) {
    float sums[kBlocks][4] = {};
    for (int step = begin; step < end; ++step) {
      copy_wait<kStages - 1>();
      __syncwarp();
      Fragment weights[2];
      F::fragments(ring + stage * F::kBandBytes, lane, weights);
#pragma unroll
      for (int p = 0; p < 2; ++p)
#pragma unroll
        for (int b = 0; b < kBlocks; ++b)
          add_products(sums[b], weights[p], load_shared(x_at[b] + step * kStepBytesX + p * 64));
      if (++stage == kStages) stage = 0;
      __syncwarp();
      issue();
    }
    float* mine = partial + ((parity * kGroups + group) * kChunks) * kPartials;
    if (chunk < chunks) {
#pragma unroll
      for (int b = 0; b < kBlocks; ++b) {
        float* to = mine + chunk * kPartials + b * kTokenPartial + lane % 4 * 2 * 16 + lane / 4;
        to[0] = sums[b][0], to[16] = sums[b][1], to[8] = sums[b][2], to[24] = sums[b][3];
      }
    }
    sync_group(group);
    store_band<kBlocks>(work, band, mine, chunks);
  }
}

/// For stream_bands: x as it stands in memory.
template <class F>
__device__ __forceinline__ void stage_plain(const StreamWork& work, uint8_t* x) {
  const int steps = work.parts[0].w.steps;
  stage_x<F>(x, pitch_of(steps), work.tokens, steps, work.cols,
             [&](int token) { return work.x + int64_t{token} * work.cols; });
  __syncthreads();
}

}  // namespace facet::cuda
