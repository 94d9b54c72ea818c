// All layers of up to 4 tokens in one launch.

#include "kernels/cuda/few_tokens.cuh"

namespace facet::cuda {

template void launch_few_tokens<4>(cudaStream_t stream, const FewTokensArgs& args);

}  // namespace facet::cuda
