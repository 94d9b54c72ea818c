#include "kernels/cuda/linear_stream_kernels.cuh"

namespace facet::cuda {

template bool stream_fits<Nvfp4Steps>(const StreamWork&);
template void linear_stream<Nvfp4Steps>(cudaStream_t, Overlap, const StreamWork&, int);

}  // namespace facet::cuda
