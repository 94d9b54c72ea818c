#pragma once

// One expert's matrices as bands, and its activation.

#include <type_traits>

#include "kernels/cuda/activation.cuh"
#include "kernels/cuda/experts_kernels.h"
#include "kernels/cuda/wide.cuh"

namespace facet::cuda {

/// Gate and up: rows 0-7 of band b are rows 8b … of the gate, rows 8-15 those of up.
template <class F>
__device__ __forceinline__ BandSource gate_up_bands(const ExpertsWork& work,
                                                    const ExpertPointers& e) {
  BandSource w;
  w.lower = reinterpret_cast<const uint8_t*>(e.gate);
  w.upper = reinterpret_cast<const uint8_t*>(e.up);
  w.pitch = int64_t{work.layer.hidden} * 2;
  w.band_rows = 8;
  w.lower_rows = work.layer.width;
  w.upper_rows = work.layer.width;
  w.bands = (work.layer.width + 7) / 8;
  w.steps = work.hidden_steps;
  return w;
}

template <class F>
__device__ __forceinline__ BandSource down_bands(const ExpertsWork& work, const ExpertPointers& e) {
  BandSource w;
  w.pitch = int64_t{work.layer.width} * 2;
  w.lower = reinterpret_cast<const uint8_t*>(e.down);
  w.upper = w.lower + 8 * w.pitch;
  w.lower_rows = work.layer.hidden;
  w.upper_rows = work.layer.hidden - 8;
  w.bands = (work.layer.hidden + 15) / 16;
  w.steps = work.width_steps;
  return w;
}

template <class F>
constexpr float kGainOf = std::is_same_v<F, Nvfp4Steps> ? kNvfp4Gain : 1.0F;

/// act(gate) * up of finished sums.
template <class F>
__device__ __forceinline__ float activated(const ExpertsWork& work,
                                           const ExpertPointers& e,
                                           float gate,
                                           float up) {
  const float g = __fmul_rn(gate, __fmul_rn(e.gate_scale, kGainOf<F>));
  const float u = __fmul_rn(up, __fmul_rn(e.up_scale, kGainOf<F>));
  return __fmul_rn(apply(work.layer.activation.function, g), u);
}

/// inner[pair, f] = value, or 0 beyond the width, as BF16 where F wants it.
template <class F>
__device__ __forceinline__ void store_inner(const ExpertsWork& work, int pair, int f, float value) {
  auto* row =
      reinterpret_cast<uint16_t*>(work.inner + int64_t{pair} * work.width_steps * kStepBytesX);
  const int position = position_of<F>(f);
  row[work.wide ? wide_position(position) : position] =
      static_cast<uint16_t>(pack_bf16(f < work.layer.width ? value : 0.0F, 0.0F));
}

}  // namespace facet::cuda
