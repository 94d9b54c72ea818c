// All layers of up to 2 tokens in one launch.

#include "kernels/cuda/few_tokens.cuh"

namespace facet::cuda {

template void launch_few_tokens<2>(cudaStream_t stream, const FewTokensArgs& args);

}  // namespace facet::cuda
