// All layers of one token in one launch.

#include "kernels/cuda/few_tokens.cuh"

namespace facet::cuda {

template void launch_few_tokens<1>(cudaStream_t stream, const FewTokensArgs& args);

}  // namespace facet::cuda
