// The plainest form of the experts: each (row, choice) reads its expert for itself, a warp for each
// element.

#include <algorithm>

#include "kernels/cuda/activation.cuh"
#include "kernels/cuda/experts_simple.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/weight_value.cuh"
#include "kernels/gpu_limits.h"

namespace facet::cuda {
namespace {

constexpr int kWarps = 8;

__device__ float dot(const float* x, const WeightMatrix& w, int64_t row) {
  float sum = 0.0F;
  for (int64_t c = threadIdx.x % kWarp; c < w.cols; c += kWarp)
    sum = fmaf(round_to_bf16(x[c]), any_weight_value(w, row, c), sum);
  return warp_sum(sum);
}

/// inner[t, j, f] = act(gate · x) * (up · x).
__global__ void __launch_bounds__(kWarps* kWarp) inner_kernel(const ExpertsArgs args) {
  const int64_t f = int64_t{blockIdx.x} * kWarps + threadIdx.x / kWarp;
  if (f >= args.width) return;
  const int64_t pair = blockIdx.y;
  const DeviceExpert& expert = args.experts[args.chosen[pair]];
  const float* x = args.x + pair / args.top_k * args.hidden;
  const float up = dot(x, expert.up, f);
  const bool gated = args.activation.gating == Gating::kGated;
  const float value = gated ? apply(args.activation.function, dot(x, expert.gate, f)) * up
                            : apply(args.activation.function, up);
  if (threadIdx.x % kWarp == 0) args.inner[pair * args.width + f] = value;
}

/// out[t, h] = sum over j of weight * down · inner, in the order of the choices.
__global__ void __launch_bounds__(kWarps* kWarp) down_kernel(const ExpertsArgs args) {
  const int64_t h = int64_t{blockIdx.x} * kWarps + threadIdx.x / kWarp;
  if (h >= args.hidden) return;
  const int64_t t = blockIdx.y;
  float sum = 0.0F;
  for (int64_t pair = t * args.top_k; pair < (t + 1) * args.top_k; ++pair) {
    const DeviceExpert& expert = args.experts[args.chosen[pair]];
    sum = fmaf(args.weights[pair], dot(args.inner + pair * args.width, expert.down, h), sum);
  }
  if (threadIdx.x % kWarp == 0) args.out[t * args.hidden + h] = sum;
}

}  // namespace

void experts_simple(cudaStream_t stream, const ExpertsArgs& args) {
  const int64_t most_rows = std::max<int64_t>(1, kMostGridHeight / args.top_k);
  for (int64_t first = 0; first < args.rows; first += most_rows) {
    ExpertsArgs pass = args;
    pass.rows = std::min(most_rows, args.rows - first);
    pass.out += first * args.hidden;
    pass.x += first * args.hidden;
    pass.chosen += first * args.top_k;
    pass.weights += first * args.top_k;
    const dim3 inner(grid(ceil_div(args.width, kWarps)), grid(pass.rows * args.top_k));
    launch(stream, Overlap::kNo, {inner, kWarps * kWarp}, "experts (plain): gate and up",
           inner_kernel, pass);
    const dim3 down(grid(ceil_div(args.hidden, kWarps)), grid(pass.rows));
    launch(stream, Overlap::kNo, {down, kWarps * kWarp}, "experts (plain): down", down_kernel,
           pass);
  }
}

}  // namespace facet::cuda
