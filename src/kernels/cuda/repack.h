#pragma once

#include <cstddef>

#include "kernels/cuda/device.h"
#include "quant/weight_matrix.h"

namespace facet::cuda {

/// tiles = the tile form (quant/nvfp4_tiles.h) of NVFP4 matrix w, whose pointers are on the device,
/// at 8 bytes. Writes all nvfp4_tiles_bytes(w.rows, w.cols), padding included. Equal, byte for
/// byte, to pack_nvfp4_tiles on the host. Bound by bytes.
void repack_nvfp4(cudaStream_t stream, std::byte* tiles, const WeightMatrix& w);
/// The same of a gate and an up matrix of one shape, as pack_nvfp4_pair_tiles.
void repack_nvfp4_pair(cudaStream_t stream,
                       std::byte* tiles,
                       const WeightMatrix& gate,
                       const WeightMatrix& up);

}  // namespace facet::cuda
