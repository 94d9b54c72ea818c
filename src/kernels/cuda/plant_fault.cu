// A fault on purpose: every later call fails, as after a fault of a kernel.

#include "kernels/cuda/plant_fault.h"

namespace facet::cuda {
namespace {

__global__ void write_kernel(int* to) { *to = 1; }

}  // namespace

void plant_illegal_access(cudaStream_t stream) {
  write_kernel<<<1, 1, 0, stream>>>(reinterpret_cast<int*>(uintptr_t{64}));
  check_launch("a planted fault");
}

}  // namespace facet::cuda
