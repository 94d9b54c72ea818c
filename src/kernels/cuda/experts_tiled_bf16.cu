#include "kernels/cuda/experts_tiled.cuh"

namespace facet::cuda {

template void experts_tiled<Bf16Steps>(cudaStream_t, Overlap, const ExpertsWork&);

}  // namespace facet::cuda
