#include "kernels/cuda/attention_launch.cuh"

namespace facet::cuda {

template void run_tiles<DType::kBF16>(cudaStream_t,
                                      const AttentionArgs&,
                                      const RowRun&,
                                      const Cut&,
                                      const AttentionMemory&,
                                      const Unprepared&);

}  // namespace facet::cuda
