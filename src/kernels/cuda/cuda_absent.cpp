// A build without CUDA.

#include "base/check.h"
#include "base/error.h"
#include "kernels/cuda/cuda_backend.h"

namespace facet::cuda {

std::unique_ptr<Backend> make_cuda_backend(const CudaOptions& /*options*/) {
  throw Error(ErrorCode::kDevice, *unavailable(), "--backend cuda");
}

std::optional<std::string> unavailable() {
  return "this build has no CUDA backend (FACET_CUDA=ON builds one)";
}

bool is_built() { return false; }

GpuSetup gpu_setup() { CHECK(false, "no CUDA backend"); }

bool has_fp4_kernel(ComputeCapability /*device*/) { return false; }

DeviceMemory device_memory() { return {}; }

}  // namespace facet::cuda
