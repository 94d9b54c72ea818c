// The router: norm and product, then softmax and the top_k. Decode is bound by its two launches.

#include "kernels/cuda/launch.h"
#include "kernels/cuda/mma.cuh"
#include "kernels/cuda/route.cuh"
#include "kernels/cuda/route.h"
#include "kernels/cuda/row_norm.cuh"

namespace facet::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarp;

/// logits[t, e] for the experts of one block, a warp an expert; each block norms its row anew.
template <WeightFormat kFormat>
__global__ void __launch_bounds__(kThreads) logits_kernel(const RouteArgs args, bool in_eights) {
  extern __shared__ __align__(16) float z[];  // [H]
  wait_for_previous();
  let_next_begin();
  const int64_t width = args.proj.cols;
  const float root = router_root(width);
  const float* x = args.x + blockIdx.x * width;
  const float inverse = inverse_rms<kThreads>(x, width, args.eps);
  for (int64_t i = threadIdx.x; i < width; i += kThreads)
    z[i] = router_input(x[i], inverse, args.scale[i], root);
  __syncthreads();
  const int64_t expert = int64_t{blockIdx.y} * kWarps + threadIdx.x / kWarp;
  if (expert >= args.proj.rows) return;
  float sum = 0.0F;
  if (in_eights) {
    const auto* row = reinterpret_cast<const uint4*>(args.proj.data + expert * width * 2);
    sum = router_logit_bf16(z, row, static_cast<int>(width));
  } else {
    sum = router_logit<kFormat>(z, args.proj, expert);
  }
  if (threadIdx.x % kWarp == 0) args.logits[blockIdx.x * args.proj.rows + expert] = sum;
}

/// One warp a row.
template <int kPerLane>
__global__ void __launch_bounds__(kWarp) choose_kernel(const RouteArgs args) {
  wait_for_previous();
  let_next_begin();
  const auto count = static_cast<int>(args.proj.rows);
  const int64_t row = blockIdx.x;
  choose_experts<kPerLane>(args.experts + row * args.top_k, args.weights + row * args.top_k,
                           args.logits + row * count, args.per_expert_scale, count,
                           static_cast<int>(args.top_k));
}

}  // namespace

bool routes_in_eights(const WeightMatrix& proj) {
  return proj.format == WeightFormat::kBF16 && proj.cols % 8 == 0 &&
         reinterpret_cast<uintptr_t>(proj.data) % 16 == 0;
}

void route(cudaStream_t stream, const RouteArgs& args) {
  if (args.rows == 0) return;
  constexpr int64_t kValue = sizeof(float);
  const int64_t logits_bytes = args.rows * args.proj.rows * kValue;
  const LaunchShape shape = {
      .grid = dim3(grid(args.rows), grid(ceil_div(args.proj.rows, kWarps))),
      .threads = kThreads,
      .shared_bytes = static_cast<int>(args.proj.cols * kValue),
      .traffic = {stored_bytes(args.proj) + args.rows * args.proj.cols * kValue + logits_bytes}};
  const bool in_eights = routes_in_eights(args.proj);
  with_format(args.proj.format, [&]<WeightFormat kFormat>() {
    launch(stream, Overlap::kYes, shape, "route: logits", logits_kernel<kFormat>, args, in_eights);
  });
  const LaunchShape choice = {
      .grid = dim3(grid(args.rows)), .threads = kWarp, .traffic = {logits_bytes}};
  const auto choose =
      args.proj.rows <= 4 * kWarp ? choose_kernel<4> : choose_kernel<kMostExperts / kWarp>;
  launch(stream, Overlap::kYes, choice, "route: choice", choose, args);
}

}  // namespace facet::cuda
