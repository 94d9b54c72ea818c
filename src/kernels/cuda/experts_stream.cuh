#pragma once

// What the kernels of experts_stream.cu are made of.

#include "kernels/cuda/experts_bands.cuh"
#include "kernels/cuda/experts_choice.cuh"
#include "kernels/cuda/linear_stream.cuh"
#include "kernels/cuda/piece_ring.cuh"

namespace facet::cuda {

inline constexpr int kBandThreads = kChunks * kWarp;
inline constexpr int kBands = 2;  // of gate_up
inline constexpr int kGateUpWarps = kBands * kChunks;
inline constexpr int kDownWarps = 16;

inline constexpr int kTableExperts = 128;  // whose pointers find room in shared memory

inline constexpr int kBesideStages = 3;
inline constexpr int kBesideFixed =
    kStreamRing<Bf16Steps, kBands, kBesideStages> + kStreamPartial<kBands, 1>;

/// With more rows the CTAs of the product beside come last: they fill the places that come free
/// first. With fewer all find room at once, and those behind it wait for it.
inline constexpr int kBesideFirstRows = 4;

/// A place in the list of all bands of the groups, and the way to the next of a warp.
struct BandWalk {
  int group;
  int band;

  __device__ static BandWalk of(int item, int bands) { return {item / bands, item % bands}; }
  __device__ void step(const BandWalk& by, int bands) {
    group += by.group;
    band += by.band;
    if (band >= bands) {
      band -= bands;
      ++group;
    }
  }
};

/// x of all rows, in F's order, by the warps from `first_warp` on, each a part of one row.
template <class F>
__device__ __forceinline__ void stage_rows(const ExpertsWork& work, uint8_t* x, int first_warp) {
  constexpr int kAtOnce = 4;
  const int warp = static_cast<int>(threadIdx.x) / kWarp - first_warp;
  const int parts = (static_cast<int>(blockDim.x) / kWarp - first_warp) / work.rows;
  const int row = warp % work.rows;
  const int eights = work.hidden_steps * 8;
  const int stride = parts * kWarp;
  if (warp < 0 || warp / work.rows >= parts) return;
  const float* from = work.x + int64_t{row} * work.layer.hidden;
  uint8_t* to = x + row * pitch_of(work.hidden_steps);
  for (int base = warp / work.rows * kWarp + static_cast<int>(threadIdx.x) % kWarp; base < eights;
       base += kAtOnce * stride) {
    uint4 packed[kAtOnce];
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      if (base + i * stride < eights)
        packed[i] = load_x8<F>(from, base + i * stride, work.layer.hidden);
    }
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      if (base + i * stride < eights)
        *reinterpret_cast<uint4*>(to + F::place(base + i * stride) * 16) = packed[i];
    }
  }
}

__device__ __forceinline__ int down_band_count(const ExpertsWork& work) {
  return (work.layer.hidden + 15) / 16;
}

/// Asks L2 for part `part` of `parts` of what down_kernel will read first.
template <class F>
__device__ __forceinline__ void prefetch_down(const ExpertsWork& work,
                                              const ExpertPointers* experts,
                                              const StreamChoice& choice,
                                              int part,
                                              int parts) {
  const int lane = threadIdx.x % kWarp;
  if (lane >= min(choice.count, kDownWarps)) return;
  const BandSource w = down_bands<F>(work, experts[choice.groups[lane].expert]);
  const int64_t bytes = std::is_same_v<F, Nvfp4Steps> ? int64_t{w.bands} * w.steps * kTileBytes
                                                      : int64_t{work.layer.hidden} * w.pitch;
  prefetch_part(w.lower, bytes, part, parts);
}

/// The product beside: its weights on the way to L2 first.
__device__ __forceinline__ void run_beside(const StreamWork& beside,
                                           int block,
                                           int blocks,
                                           uint8_t* shared) {
  const StreamPart& part = beside.parts[0];
  if (threadIdx.x < kWarp) {
    prefetch_part(part.w.lower, int64_t{part.rows} * part.w.pitch,
                  static_cast<int>(block * kWarp + threadIdx.x), blocks * kWarp);
  }
  stream_bands<Bf16Steps, 1, kBands, kBesideStages>(
      beside, beside.all_bands, block, blocks, shared, [&](uint8_t* x) {
        wait_for_previous();
        let_next_begin();  // not before: the next kernel reads the routing without waiting
        stage_plain<Bf16Steps>(beside, x);
      });
}

/// What a warp of down will read, step by step: its groups of one band after another.
template <class F>
struct DownFeed {
  const ExpertsWork& work;
  const ExpertPointers* experts;
  const StreamChoice& choice;
  int worker;
  int band;
  int bands_apart;
  int workers;  // that share a band's groups
  int group = worker;
  int chunk = 0;
  int step = 0;

  __device__ __forceinline__ void fill(PieceRing<F>& ring) {
    const int steps = work.width_steps;
    if (worker >= choice.count || band >= down_band_count(work)) return ring.fill_nothing();
    if (step == 0) ring.seek(down_bands<F>(work, experts[choice.groups[group].expert]), band);
    const int end = chunk_begin(steps, chunk + 1);
    const int count = min(kPieceSteps<F>, end - step);
    ring.fill(step, count);
    step += count;
    if (step < end || ++chunk < chunks_of(steps)) return;
    chunk = 0;
    step = 0;
    group += workers;
    if (group < choice.count) return;
    group = worker;
    band += bands_apart;
  }
};

/// A finished band of one group, by the threads of its warps: token * 8 + row, gate and up at once.
template <class F>
__device__ __forceinline__ void store_gate_up(const ExpertsWork& work,
                                              const ExpertPointers& expert,
                                              const ExpertGroup& group,
                                              int band,
                                              const float* partial,
                                              int chunks) {
  const int element = threadIdx.x % kBandThreads;
  const int token = element / 8;
  if (token >= group.count) return;
  const float* from = partial + token * 16 + element % 8;
  float gate = 0.0F;
  float up = 0.0F;
  for (int c = 0; c < chunks; ++c) {
    gate = __fadd_rn(gate, from[c * work.rows * 16]);
    up = __fadd_rn(up, from[c * work.rows * 16 + 8]);
  }
  store_inner<F>(work, group.pairs[token], band * 8 + element % 8,
                 activated<F>(work, expert, gate, up));
}

/// One group's part of a band: results[pair][16 rows]. `fill()` asks for what comes next. What
/// gate_up left of its pairs is read where it is: it takes longer to bring all of it to shared
/// memory, whose room would keep other warps away.
template <class F>
__device__ __forceinline__ void down_group(PieceRing<F>& ring,
                                           const ExpertsWork& work,
                                           const ExpertGroup& group,
                                           const ExpertPointers* experts,
                                           float* results,
                                           const auto& fill) {
  const int lane = threadIdx.x % kWarp;
  const int steps = work.width_steps;
  const float factor = __fmul_rn(experts[group.expert].down_scale, kGainOf<F>);
  const auto* x =
      reinterpret_cast<const uint4*>(
          work.inner + int64_t{group.pairs[min(lane / 4, group.count - 1)]} * steps * kStepBytesX) +
      lane % 4;
  float total[4] = {};
  for (int chunk = 0; chunk < chunks_of(steps); ++chunk) {
    const int end = chunk_begin(steps, chunk + 1);
    float sums[4] = {};
    for (int step = chunk_begin(steps, chunk); step < end; step += kPieceSteps<F>) {
      uint4 values[kPieceSteps<F>][2];
#pragma unroll
      for (int i = 0; i < kPieceSteps<F>; ++i)
#pragma unroll
        for (int p = 0; p < 2; ++p)
          if (step + i < end) values[i][p] = __ldcg(x + (step + i) * (kStepBytesX / 16) + p * 4);
      const uint8_t* piece = ring.wait();
#pragma unroll
      for (int i = 0; i < kPieceSteps<F>; ++i) {
        if (step + i >= end) break;
        Fragment weights[2];
        F::fragments(piece + i * F::kBandBytes, lane, weights);
#pragma unroll
        for (int p = 0; p < 2; ++p) add_products(sums, weights[p], values[i][p]);
      }
      ring.release();
      fill();
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) total[i] = __fadd_rn(total[i], sums[i]);
  }
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int token = lane % 4 * 2 + i % 2;
    if (token < group.count)
      results[group.pairs[token] * 16 + lane / 4 + i / 2 * 8] = __fmul_rn(total[i], factor);
  }
}

/// out of band `band`: each row's results in the order of its choices.
__device__ __forceinline__ void add_choices(const ExpertsWork& work,
                                            const StreamChoice& choice,
                                            const float* results,
                                            int band) {
  for (int i = threadIdx.x; i < work.rows * 16; i += blockDim.x) {
    const int row = band * 16 + i % 16;
    const int t = i / 16;
    if (row >= work.layer.hidden) continue;
    const float* from = results + t * work.top_k * 16 + i % 16;
    float sum = 0.0F;
    for (int j = 0; j < work.top_k; ++j)
      sum = __fmaf_rn(choice.weights[t * work.top_k + j], from[j * 16], sum);
    work.out[int64_t{t} * work.layer.hidden + row] = sum;
  }
}

/// Waits until all of `count` CTAs have come here, and sees what they wrote. All are there at once.
/// arrivals: how many came, how many left; the last to leave makes both 0 again, and `routed` if
/// there is one.
__device__ __forceinline__ void meet(int32_t* arrivals, int count, int32_t* routed) {
  __syncthreads();
  if (threadIdx.x == 0) {
    __threadfence();
    atomicAdd(arrivals, 1);
    while (load_acquire(arrivals) < count) {
    }
    if (atomicAdd(arrivals + 1, 1) == count - 1) {
      arrivals[0] = 0;
      arrivals[1] = 0;
      if (routed != nullptr) *routed = 0;
    }
    __threadfence();
  }
  __syncthreads();
}

}  // namespace facet::cuda
