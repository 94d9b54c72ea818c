#include "kernels/cuda/attention_launch.cuh"

namespace facet::cuda {

template void run_tiles<DType::kF8E4M3>(cudaStream_t,
                                        const AttentionArgs&,
                                        const RowRun&,
                                        const Cut&,
                                        const AttentionMemory&,
                                        const Unprepared&);

}  // namespace facet::cuda
