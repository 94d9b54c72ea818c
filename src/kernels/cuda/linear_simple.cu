// The plainest product, for any format: a warp has one row of w and eight of x.

#include "kernels/cuda/launch.h"
#include "kernels/cuda/linear_simple.h"
#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/weight_value.cuh"

namespace facet::cuda {
namespace {

constexpr int kWarps = 8;
constexpr int kTokens = 8;

template <WeightFormat kFormat>
__global__ void __launch_bounds__(kWarps* kWarp)
    linear_simple_kernel(float* out, const float* x, const WeightMatrix w, int64_t rows) {
  const int64_t row = int64_t{blockIdx.x} * kWarps + threadIdx.x / kWarp;
  const int64_t first = int64_t{blockIdx.y} * kTokens;
  if (row >= w.rows) return;
  float sums[kTokens] = {};
  for (int64_t c = threadIdx.x % kWarp; c < w.cols; c += kWarp) {
    const float weight = weight_value<kFormat>(w, row, c);
#pragma unroll
    for (int t = 0; t < kTokens; ++t) {
      if (first + t < rows)
        sums[t] = fmaf(round_to_bf16(x[(first + t) * w.cols + c]), weight, sums[t]);
    }
  }
#pragma unroll
  for (int t = 0; t < kTokens; ++t) {
    const float sum = warp_sum(sums[t]);
    if (threadIdx.x % kWarp == 0 && first + t < rows) out[(first + t) * w.rows + row] = sum;
  }
}

}  // namespace

void linear_simple(
    cudaStream_t stream, float* out, const float* x, const WeightMatrix& w, int64_t rows) {
  if (rows == 0) return;
  const LaunchShape shape = {
      .grid = dim3(grid(ceil_div(w.rows, kWarps)), grid(ceil_div(rows, kTokens))),
      .threads = kWarps * kWarp,
      .traffic = {stored_bytes(w) + rows * (w.rows + w.cols) * int64_t{sizeof(float)}}};
  with_format(w.format, [&]<WeightFormat kFormat>() {
    launch(stream, Overlap::kNo, shape, "linear (plain)", linear_simple_kernel<kFormat>, out, x, w,
           rows);
  });
}

}  // namespace facet::cuda
