#include "kernels/cuda/linear_stream_kernels.cuh"

namespace facet::cuda {

template bool stream_fits<Bf16Steps>(const StreamWork&);
template void linear_stream<Bf16Steps>(cudaStream_t, Overlap, const StreamWork&, int);

}  // namespace facet::cuda
