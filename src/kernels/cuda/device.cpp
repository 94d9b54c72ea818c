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

namespace {

int attribute(cudaDeviceAttr which) {
  int value = 0;
  check(cudaDeviceGetAttribute(&value, which, 0), "an attribute of the GPU");
  return value;
}

}  // namespace

int architecture() {
  static const int value = 10 * attribute(cudaDevAttrComputeCapabilityMajor) +
                           attribute(cudaDevAttrComputeCapabilityMinor);
  return value;
}

int most_shared_bytes() {
  static const int value = attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin);
  return value;
}

int multiprocessors() {
  static const int value = attribute(cudaDevAttrMultiProcessorCount);
  return value;
}

bool device_has_wgmma() { return architecture() / 10 == 9; }

unsigned grid(int64_t blocks) {
  CHECK(blocks > 0 && blocks <= std::numeric_limits<int32_t>::max(), "{} blocks", blocks);
  return static_cast<unsigned>(blocks);
}

}  // namespace facet::cuda
