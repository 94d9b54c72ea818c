#pragma once

// A warp's weights on their way through a ring of its own in shared memory, in pieces of a few
// steps of one band. NVFP4, whose steps of a band are neighbours, comes in one copy a piece, asked
// for by one lane, where the GPU has such copies; else each lane copies units of 16 bytes.

#include <type_traits>

#include "kernels/cuda/bulk.cuh"
#include "kernels/cuda/steps.cuh"

namespace facet::cuda {

template <class F>
inline constexpr int kPieceSteps = 1;
template <>
inline constexpr int kPieceSteps<Nvfp4Steps> = 4;

template <class F>
inline constexpr int kPieceBytes = kPieceSteps<F>* F::kBandBytes;

/// Stages that a ring may have; at least kFewestStages.
template <class F>
inline constexpr int kMostStages = 4;
template <>
inline constexpr int kMostStages<Nvfp4Steps> = 3;
inline constexpr int kFewestStages = 2;

template <class F>
class PieceRing {
 public:
  static constexpr int kSteps = kPieceSteps<F>;

  /// `at`: `stages` * kPieceBytes; `barriers`: kMostStages. Of this warp alone.
  __device__ __forceinline__ PieceRing(uint8_t* at, uint64_t* barriers, int stages, int lane)
      : at_(at),
        to_(shared_address(at)),
        barriers_(shared_address(barriers)),
        stages_(stages),
        lane_(lane),
        policy_(evict_first()) {
    if constexpr (kBulk) {
      if (lane == 0) {
        for (int i = 0; i < stages; ++i) barrier_init(barriers_ + i * 8);
        show_to_copies();
      }
      __syncwarp();
    }
  }

  /// What comes next is of `band`. Bands that are not there hold anything.
  __device__ __forceinline__ void seek(const BandSource& w, int band) {
    if constexpr (kBulk) {
      from_ = w.lower + int64_t{min(band, w.bands - 1)} * w.steps * kTileBytes;
    } else {
      from_ = w.lower;
      units_.seek(w, band, lane_);
    }
  }
  /// Asks for `steps` (at most kSteps) steps from `step` on, into the stage that was free longest.
  /// As many times as there are stages, then after each release().
  __device__ __forceinline__ void fill(int step, int steps) {
    const uint32_t to = to_ + fill_stage_ * kPieceBytes<F>;
    if constexpr (kBulk) {
      if (lane_ == 0) {
        const uint32_t barrier = barriers_ + fill_stage_ * 8;
        const uint32_t bytes = steps * kTileBytes;
        barrier_expect(barrier, bytes);
        copy_bulk(to, from_ + step * kTileBytes, bytes, barrier, policy_);
      }
    } else {
      for (int i = 0; i < steps; ++i)
        units_.copy(to + i * F::kBandBytes, from_, step + i, lane_, policy_);
      copy_commit();
    }
    if (++fill_stage_ == stages_) fill_stage_ = 0;
  }
  /// Instead of fill(), when nothing is left to ask for.
  __device__ __forceinline__ void fill_nothing() {
    if constexpr (!kBulk) copy_commit();
  }
  /// The piece that was asked for first, once it is there.
  __device__ __forceinline__ const uint8_t* wait() const {
    if constexpr (kBulk) {
      barrier_wait(barriers_ + stage_ * 8, turn_);
    } else {
      if (stages_ == 2) {
        copy_wait<1>();
      } else if (stages_ == 3) {
        copy_wait<2>();
      } else {
        copy_wait<3>();
      }
      __syncwarp();
    }
    return at_ + stage_ * kPieceBytes<F>;
  }
  /// The warp has read it.
  __device__ __forceinline__ void release() {
    __syncwarp();
    if (++stage_ == stages_) {
      stage_ = 0;
      turn_ ^= 1;
    }
  }

 private:
  static constexpr bool kBulk = kBulkCopies && std::is_same_v<F, Nvfp4Steps>;

  const uint8_t* at_;
  uint32_t to_;
  uint32_t barriers_;
  int stages_;
  int lane_;
  uint64_t policy_;
  const uint8_t* from_ = nullptr;
  LaneUnits<F> units_;
  int fill_stage_ = 0;
  int stage_ = 0;
  uint32_t turn_ = 0;
};

/// Adds a piece of `steps` steps to the sums of 8 tokens, whose x of its first is at `x` for this
/// lane.
template <class F>
__device__ __forceinline__ void add_piece(
    float (&sums)[4], const uint8_t* piece, const uint8_t* x, int steps, int lane) {
  if (steps == kPieceSteps<F>) {
#pragma unroll
    for (int i = 0; i < kPieceSteps<F>; ++i)
      add_step<F>(sums, piece + i * F::kBandBytes, x + i * kStepBytesX, lane);
    return;
  }
#pragma unroll 1
  for (int i = 0; i < steps; ++i)
    add_step<F>(sums, piece + i * F::kBandBytes, x + i * kStepBytesX, lane);
}

}  // namespace facet::cuda
