#include "kernels/cuda/launch.h"
#include "kernels/cuda/repack.h"
#include "quant/nvfp4_tiles.h"

namespace facet::cuda {
namespace {

constexpr int kThreads = 256;

/// As tile_scale: without sign and subnormals.
__device__ uint32_t scale_code(uint32_t magnitude) {
  if (magnitude >= 8) return magnitude + 16;
  const int exponent = 31 - __clz(static_cast<int>(magnitude));
  return exponent * 8 + ((magnitude << (3 - exponent)) & 7);
}

/// As spread_codes.
__device__ uint32_t spread(uint32_t nibbles) {
  constexpr int kMagnitude[4] = {kTileMagnitude[0], kTileMagnitude[1], kTileMagnitude[2],
                                 kTileMagnitude[3]};
  constexpr int kSign[4] = {kTileSign[0], kTileSign[1], kTileSign[2], kTileSign[3]};
  uint32_t word = 0;
#pragma unroll
  for (int j = 0; j < 8; ++j) {
    const uint32_t code = nibbles >> (j * 4);
    word |= (code & 7u) << (kMagnitude[j % 4] + j / 4 * 16);
    word |= ((code >> 3) & 1u) << (kSign[j % 4] + j / 4 * 16);
  }
  return word;
}

/// A thread moves 16 columns of one row of a band: eight bytes and their scale. `half_rows` is how
/// far rows 8-15 of a band lie behind rows 0-7 in `upper`: 8 for one matrix, 0 for a pair.
__global__ void __launch_bounds__(kThreads) repack_kernel(uint8_t* tiles,
                                                          const WeightMatrix lower,
                                                          const WeightMatrix upper,
                                                          int64_t bands,
                                                          int band_rows,
                                                          int half_rows) {
  const int64_t steps = (lower.cols + kTileCols - 1) / kTileCols;
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= bands * steps * 64) return;
  const int half = static_cast<int>(i % 2);
  const int lane = static_cast<int>(i / 2 % kWarp);
  const int64_t block = i / 64;
  const int64_t row = block / steps * band_rows + half * half_rows + lane / 4;
  const int64_t col = block % steps * kTileCols + lane % 4 * 16;
  const WeightMatrix& w = half ? upper : lower;
  uint2 codes = {0, 0};
  uint32_t scale = 0;
  if (row < w.rows && col < w.cols) {
    codes = *reinterpret_cast<const uint2*>(w.data + (row * w.cols + col) / 2);
    const uint32_t stored = reinterpret_cast<const uint8_t*>(w.scales)[(row * w.cols + col) / 16];
    const uint32_t magnitude = stored & 0x7fu;
    const uint32_t keep = magnitude == 0 ? 0 : 0xffffffffu;
    const uint32_t flip = magnitude != 0 && (stored & 0x80u) != 0 ? 0x88888888u : 0;
    codes = {spread((codes.x & keep) ^ flip), spread((codes.y & keep) ^ flip)};
    scale = magnitude == 0 ? 0 : scale_code(magnitude);
  }
  uint8_t* to = tiles + block * kTileBytes;
  *reinterpret_cast<uint2*>(to + lane * 16 + half * 8) = codes;
  to[512 + lane * 2 + half] = static_cast<uint8_t>(scale);
}

void run(cudaStream_t stream,
         std::byte* tiles,
         const WeightMatrix& lower,
         const WeightMatrix& upper,
         int64_t bands,
         int band_rows,
         int half_rows) {
  const LaunchShape shape = {dim3(grid(ceil_div(bands * tile_steps(lower.cols) * 64, kThreads))),
                             kThreads};
  launch(stream, Overlap::kNo, shape, "repack", repack_kernel, reinterpret_cast<uint8_t*>(tiles),
         lower, upper, bands, band_rows, half_rows);
}

}  // namespace

void repack_nvfp4(cudaStream_t stream, std::byte* tiles, const WeightMatrix& w) {
  run(stream, tiles, w, w, tile_bands(w.rows), kTileRows, 8);
}

void repack_nvfp4_pair(cudaStream_t stream,
                       std::byte* tiles,
                       const WeightMatrix& gate,
                       const WeightMatrix& up) {
  run(stream, tiles, gate, up, (gate.rows + 7) / 8, 8, 0);
}

}  // namespace facet::cuda
