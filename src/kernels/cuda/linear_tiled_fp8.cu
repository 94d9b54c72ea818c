#include "kernels/cuda/linear_tiled.cuh"

namespace facet::cuda {

template void linear_tiled<Fp8Steps>(cudaStream_t, Overlap, const LinearBands&, uint8_t*);
template void linear_wide<Fp8Steps>(cudaStream_t, Overlap, const StreamWork&, uint8_t*);

}  // namespace facet::cuda
