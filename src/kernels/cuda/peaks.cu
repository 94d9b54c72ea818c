// What the GPU can do at best, measured on it.

#include "kernels/cuda/device.h"
#include "kernels/cuda/mma.cuh"
#include "kernels/cuda/peaks.h"

namespace facet::cuda {
namespace {

constexpr int kThreads = 512;
constexpr int kUnroll = 8;
constexpr int kRuns = 5;

/// Reads `count` vectors; writes only if their bits add up to one value in 2^32.
__global__ void __launch_bounds__(kThreads)
    read_kernel(const uint4* data, int64_t count, uint32_t* sink) {
  const int64_t stride = int64_t{gridDim.x} * kThreads;
  uint32_t sum = 0;
  int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  for (; i + (kUnroll - 1) * stride < count; i += kUnroll * stride) {
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      const uint4 v = __ldcs(data + i + u * stride);
      sum += v.x ^ v.y ^ v.z ^ v.w;
    }
  }
  if (sum == 0x12345678u) *sink = sum;
}

constexpr int kProducts = 4096;  // of a warp, in each of eight chains

__global__ void __launch_bounds__(256) product_kernel(float* sink) {
  constexpr int kChains = 8;
  float sums[kChains][4] = {};
  const uint32_t a = threadIdx.x;
  for (int i = 0; i < kProducts; ++i) {
#pragma unroll
    for (auto& sum : sums) mma(sum, a, 1, 2, 3, a, 5);
  }
  float all = 0;
  for (const auto& sum : sums) all += sum[0] + sum[1] + sum[2] + sum[3];
  if (all == 1.0F) *sink = all;
}

/// Seconds of the quickest of some runs of `body`, which enqueues.
template <typename Body>
double quickest(cudaStream_t stream, const Body& body) {
  cudaEvent_t begin = nullptr;
  cudaEvent_t end = nullptr;
  check(cudaEventCreate(&begin), "an event");
  check(cudaEventCreate(&end), "an event");
  double best = 1e30;
  for (int run = 0; run < kRuns; ++run) {
    check(cudaEventRecord(begin, stream), "an event");
    body();
    check(cudaEventRecord(end, stream), "an event");
    check(cudaEventSynchronize(end), "a measurement");
    float ms = 0;
    check(cudaEventElapsedTime(&ms, begin, end), "a measurement");
    best = ms * 1e-3 < best ? ms * 1e-3 : best;
  }
  cudaEventDestroy(begin);
  cudaEventDestroy(end);
  return best;
}

}  // namespace

bool has_code_for_device() {
  cudaFuncAttributes attributes{};
  const cudaError_t result = cudaFuncGetAttributes(&attributes, read_kernel);
  if (result == cudaErrorNoKernelImageForDevice || result == cudaErrorInvalidDeviceFunction) {
    cudaGetLastError();
    return false;
  }
  check(result, "machine code for the GPU");
  return true;
}

double measure_read(cudaStream_t stream, void* data, int64_t bytes) {
  const int blocks = 8 * multiprocessors();
  const int64_t count = bytes / 16;
  const double seconds = quickest(stream, [&] {
    read_kernel<<<blocks, kThreads, 0, stream>>>(static_cast<const uint4*>(data), count,
                                                 static_cast<uint32_t*>(data));
    check_launch("read");
  });
  const int64_t step = int64_t{blocks} * kThreads * kUnroll;
  return static_cast<double>(count / step * step * 16) / seconds;
}

double measure_products(cudaStream_t stream, float* sink) {
  const int blocks = 4 * multiprocessors();
  const double seconds = quickest(stream, [&] {
    product_kernel<<<blocks, 256, 0, stream>>>(sink);
    check_launch("products");
  });
  return 2.0 * 16 * 8 * 16 * 8 * kProducts * (256.0 / kWarp) * blocks / seconds;
}

}  // namespace facet::cuda
