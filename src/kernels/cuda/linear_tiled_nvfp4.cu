#include "kernels/cuda/linear_tiled.cuh"

namespace facet::cuda {

template void linear_tiled<Nvfp4Steps>(cudaStream_t, Overlap, const LinearBands&, uint8_t*);
template void linear_wide<Nvfp4Steps>(cudaStream_t, Overlap, const StreamWork&, uint8_t*);

}  // namespace facet::cuda
