// The router: norm and product, then softmax and the top_k. Decode is bound by its two launches.

#include "kernels/cuda/launch.h"
#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/route.h"
#include "kernels/cuda/weight_value.cuh"

namespace facet::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarp;

/// logits[t, e] for the experts of one block, a warp an expert; each block norms its row anew.
template <WeightFormat kFormat>
__global__ void __launch_bounds__(kThreads) logits_kernel(const RouteArgs args) {
  extern __shared__ float z[];  // [H]
  const int64_t width = args.proj.cols;
  const float* x = args.x + blockIdx.x * width;
  float squares = 0.0F;
  for (int64_t i = threadIdx.x; i < width; i += kThreads) squares += x[i] * x[i];
  const float mean = block_sum<kThreads>(squares) / static_cast<float>(width);
  const float inverse = 1.0F / sqrtf(mean + args.eps);
  const auto root = static_cast<float>(1.0 / sqrt(static_cast<double>(width)));
  for (int64_t i = threadIdx.x; i < width; i += kThreads)
    z[i] = x[i] * inverse * args.scale[i] * root;
  __syncthreads();
  const int64_t expert = int64_t{blockIdx.y} * kWarps + threadIdx.x / kWarp;
  if (expert >= args.proj.rows) return;
  float sum = 0.0F;
  for (int64_t i = threadIdx.x % kWarp; i < width; i += kWarp)
    sum = fmaf(z[i], weight_value<kFormat>(args.proj, expert, i), sum);
  sum = warp_sum(sum);
  if (threadIdx.x % kWarp == 0) args.logits[blockIdx.x * args.proj.rows + expert] = sum;
}

__device__ double warp_sum(double value) {
  for (int offset = kWarp / 2; offset > 0; offset /= 2)
    value += __shfl_xor_sync(kAllLanes, value, offset);
  return value;
}

/// The largest value of all lanes' candidates, of equal ones that of the lowest index. An index of
/// -1 is no candidate.
__device__ void warp_best(float& value, int& index) {
  for (int offset = kWarp / 2; offset > 0; offset /= 2) {
    const float other = __shfl_xor_sync(kAllLanes, value, offset);
    const int at = __shfl_xor_sync(kAllLanes, index, offset);
    const bool better = at >= 0 && (index < 0 || other > value || (other == value && at < index) ||
                                    (value != value && other == other));
    if (better) {
      value = other;
      index = at;
    }
  }
  // Lanes may disagree where NaN is about.
  value = __shfl_sync(kAllLanes, value, 0);
  index = __shfl_sync(kAllLanes, index, 0);
}

/// One warp a row; lane l has experts l, l + 32, ….
template <int kPerLane>
__global__ void __launch_bounds__(kWarp) choose_kernel(const RouteArgs args) {
  const auto count = static_cast<int>(args.proj.rows);
  const auto top_k = static_cast<int>(args.top_k);
  const int lane = threadIdx.x;
  const float* logits = args.logits + int64_t{blockIdx.x} * count;
  float p[kPerLane];
  float largest = -INFINITY;
  for (int e = lane; e < count; e += kWarp) largest = fmaxf(largest, logits[e]);
  largest = warp_max(largest);
  double total = 0;
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) {
    const int e = lane + i * kWarp;
    if (e < count) total += exp(static_cast<double>(logits[e]) - static_cast<double>(largest));
  }
  total = warp_sum(total);
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) {
    const int e = lane + i * kWarp;
    p[i] = e >= count
               ? -1.0F
               : static_cast<float>(
                     exp(static_cast<double>(logits[e]) - static_cast<double>(largest)) / total);
  }
  double chosen_total = 0;
  for (int j = 0; j < top_k; ++j) {
    float best = -1.0F;
    int index = -1;
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) {
      const int e = lane + i * kWarp;
      // Taken ones are -1; NaN is taken last, but before nothing.
      if (e < count && p[i] != -1.0F && (index < 0 || p[i] > best || best != best)) {
        best = p[i];
        index = e;
      }
    }
    warp_best(best, index);
    chosen_total += static_cast<double>(best);
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) {
      if (lane + i * kWarp == index) p[i] = -1.0F;
    }
    if (lane == 0) {
      args.experts[blockIdx.x * top_k + j] = index;
      args.weights[blockIdx.x * top_k + j] = best;
    }
  }
  __syncwarp();
  for (int j = lane; j < top_k; j += kWarp) {
    float* weight = args.weights + blockIdx.x * top_k + j;
    const int expert = args.experts[blockIdx.x * top_k + j];
    const auto share = static_cast<float>(static_cast<double>(*weight) / chosen_total);
    *weight = share * args.per_expert_scale[expert];
  }
}

}  // namespace

void route(cudaStream_t stream, const RouteArgs& args) {
  if (args.rows == 0) return;
  constexpr int64_t kValue = sizeof(float);
  const int64_t logits_bytes = args.rows * args.proj.rows * kValue;
  const LaunchShape logits = {
      .grid = dim3(grid(args.rows), grid(ceil_div(args.proj.rows, kWarps))),
      .threads = kThreads,
      .shared_bytes = static_cast<int>(args.proj.cols * kValue),
      .traffic = {stored_bytes(args.proj) + args.rows * args.proj.cols * kValue + logits_bytes}};
  with_format(args.proj.format, [&]<WeightFormat kFormat>() {
    launch(stream, Overlap::kNo, logits, "route: logits", logits_kernel<kFormat>, args);
  });
  const LaunchShape choice = {
      .grid = dim3(grid(args.rows)), .threads = kWarp, .traffic = {logits_bytes}};
  const auto choose =
      args.proj.rows <= 4 * kWarp ? choose_kernel<4> : choose_kernel<kMostExperts / kWarp>;
  launch(stream, Overlap::kNo, choice, "route: choice", choose, args);
}

}  // namespace facet::cuda
