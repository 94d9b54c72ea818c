#include "kernels/cuda/device.h"

#include <fmt/core.h>
#include <limits>

#include "base/check.h"
#include "base/error.h"

namespace facet::cuda {

void check(cudaError_t result, const char* what) {
  if (result == cudaSuccess) return;
  const ErrorCode code =
      result == cudaErrorMemoryAllocation ? ErrorCode::kOutOfMemory : ErrorCode::kDevice;
  throw Error(code, fmt::format("{}: {}", what, cudaGetErrorString(result)), "CUDA");
}

bool device_has_wgmma() {
  static const bool has = [] {
    int major = 0;
    check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0),
          "the compute capability");
    return major == 9;
  }();
  return has;
}

unsigned grid(int64_t blocks) {
  CHECK(blocks > 0 && blocks <= std::numeric_limits<int32_t>::max(), "{} blocks", blocks);
  return static_cast<unsigned>(blocks);
}

}  // namespace facet::cuda
