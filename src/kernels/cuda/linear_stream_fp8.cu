#include "kernels/cuda/linear_stream_kernels.cuh"

namespace facet::cuda {

template bool stream_fits<Fp8Steps>(const StreamWork&);
template void linear_stream<Fp8Steps>(cudaStream_t, Overlap, const StreamWork&, int);

}  // namespace facet::cuda
