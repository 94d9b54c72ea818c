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

unsigned grid(int64_t blocks) {
  CHECK(blocks > 0 && blocks <= std::numeric_limits<int32_t>::max(), "{} blocks", blocks);
  return static_cast<unsigned>(blocks);
}

}  // namespace facet::cuda
