// The router: norm and product, then softmax and the top_k. Decode is bound by its two launches.

#include <algorithm>

#include "kernels/cuda/launch.h"
#include "kernels/cuda/mma.cuh"
#include "kernels/cuda/route.cuh"
#include "kernels/cuda/route.h"
#include "kernels/cuda/row_norm.cuh"

namespace facet::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarp;

/// How a row of proj is read: by router_logit(), or in eights from where it stands, or from shared
/// memory, where it went while the kernel before this one ended.
enum class Rows { kPlain, kInEights, kAhead };

/// logits[t, e] for the experts of one block, a warp an expert; each block norms its row anew.
/// shared: z, then with kAhead the rows of proj.
template <WeightFormat kFormat>
__global__ void __launch_bounds__(kThreads) logits_kernel(const RouteArgs args, Rows rows) {
  extern __shared__ __align__(16) float z[];  // [H]
  const int64_t expert = int64_t{blockIdx.y} * kWarps + threadIdx.x / kWarp;
  const auto eights = static_cast<int>(args.proj.cols / 8);
  const auto* row = reinterpret_cast<const uint4*>(args.proj.data + expert * args.proj.cols * 2);
  if (rows == Rows::kAhead) {
    auto* ahead = reinterpret_cast<uint4*>(z + args.proj.cols) + threadIdx.x / kWarp * eights;
    if (expert < args.proj.rows) {
      for (int i = threadIdx.x % kWarp; i < eights; i += kWarp)
        copy_async(shared_address(ahead + i), row + i, true);
    }
    copy_commit();
    row = ahead;
  }
  wait_for_previous();
  let_next_begin();
  const int64_t width = args.proj.cols;
  const float root = router_root(width);
  const float* x = args.x + blockIdx.x * width;
  const float inverse = inverse_rms<kThreads>(x, width, args.eps);
  for (int64_t i = threadIdx.x; i < width; i += kThreads)
    z[i] = router_input(x[i], inverse, args.scale[i], root);
  copy_wait<0>();
  __syncthreads();
  if (expert >= args.proj.rows) return;
  const float sum = rows == Rows::kPlain ? router_logit<kFormat>(z, args.proj, expert)
                                         : router_logit_bf16(z, row, static_cast<int>(width));
  if (threadIdx.x % kWarp == 0) args.logits[blockIdx.x * args.proj.rows + expert] = sum;
}

/// Up to here the rows of proj go to shared memory, which leaves room for fewer blocks.
constexpr int64_t kFewRows = 16;

constexpr int kTileThreads = kRowThreads;
constexpr int kTileRows = 8;  // of a block: each weight that is read serves as many
constexpr int kAtOnce = 4;    // experts of a warp: so does each z
/// From here on tiles keep the GPU busy.
constexpr int64_t kManyRows = 256;

/// The same for many rows of BF16 in eights, a warp four experts and kTileRows rows: each sum is
/// made as router_logit_bf16() makes it.
__global__ void __launch_bounds__(kTileThreads) logits_tile_kernel(const RouteArgs args) {
  extern __shared__ __align__(16) float z[];  // [kTileRows][H]
  wait_for_previous();
  let_next_begin();
  const auto width = static_cast<int>(args.proj.cols);
  const auto experts = static_cast<int>(args.proj.rows);
  const int64_t first = int64_t{blockIdx.x} * kTileRows;
  const int rows = args.rows - first < kTileRows ? static_cast<int>(args.rows - first) : kTileRows;
  const float root = router_root(width);
  for (int r = 0; r < kTileRows; ++r) {
    // Rows that are not there: the last one once more, for nobody.
    const float* x = args.x + (first + min(r, rows - 1)) * width;
    const float inverse = inverse_rms<kTileThreads>(x, width, args.eps);
    for (int i = threadIdx.x; i < width; i += kTileThreads)
      z[r * width + i] = router_input(x[i], inverse, args.scale[i], root);
  }
  __syncthreads();
  const int lane = threadIdx.x % kWarp;
  constexpr int kStride = kTileThreads / kWarp * kAtOnce;
  for (int e = threadIdx.x / kWarp * kAtOnce; e < experts; e += kStride) {
    const uint4* weights[kAtOnce];
#pragma unroll
    for (int j = 0; j < kAtOnce; ++j) {
      const int64_t row = min(e + j, experts - 1);
      weights[j] = reinterpret_cast<const uint4*>(args.proj.data + row * width * 2);
    }
    float sums[kAtOnce][kTileRows] = {};
    for (int eight = lane; eight * 8 < width; eight += kWarp) {
      uint4 packed[kAtOnce];
#pragma unroll
      for (int j = 0; j < kAtOnce; ++j) packed[j] = weights[j][eight];
#pragma unroll
      for (int r = 0; r < kTileRows; ++r) {
        const auto* at = reinterpret_cast<const float4*>(z + r * width + eight * 8);
        const float4 low = at[0];
        const float4 high = at[1];
#pragma unroll
        for (int j = 0; j < kAtOnce; ++j) sums[j][r] = add_eight(sums[j][r], low, high, packed[j]);
      }
    }
#pragma unroll
    for (int j = 0; j < kAtOnce; ++j) {
#pragma unroll
      for (int r = 0; r < kTileRows; ++r) {
        const float sum = warp_sum(sums[j][r]);
        if (lane == 0 && r < rows && e + j < experts)
          args.logits[(first + r) * experts + e + j] = sum;
      }
    }
  }
}

/// One warp a row.
template <int kPerLane>
__global__ void __launch_bounds__(kWarp) choose_kernel(const RouteArgs args) {
  wait_for_previous();
  let_next_begin();
  const auto count = static_cast<int>(args.proj.rows);
  const int64_t row = blockIdx.x;
  choose_experts<kPerLane>(args.experts + row * args.top_k, args.weights + row * args.top_k,
                           logits_at(args.logits + row * count), args.per_expert_scale, count,
                           static_cast<int>(args.top_k));
}

}  // namespace

bool routes_in_eights(const WeightMatrix& proj) {
  return proj.format == WeightFormat::kBF16 && proj.cols % 8 == 0 &&
         reinterpret_cast<uintptr_t>(proj.data) % 16 == 0;
}

void route_logits(cudaStream_t stream, const RouteArgs& args) {
  if (args.rows == 0) return;
  constexpr int64_t kValue = sizeof(float);
  const int64_t row_bytes = args.proj.cols * kValue;
  const Traffic traffic = {stored_bytes(args.proj) +
                           args.rows * (row_bytes + args.proj.rows * kValue)};
  const bool in_eights = routes_in_eights(args.proj);
  constexpr int kStatic = 1024;  // what the kernel declares itself, at most
  const int64_t most_shared = std::min(200 * 1024, most_shared_bytes() - kStatic);
  if (in_eights && args.rows >= kManyRows && kTileRows * row_bytes <= most_shared) {
    const LaunchShape tiles = {.grid = dim3(grid(ceil_div(args.rows, kTileRows))),
                               .threads = kTileThreads,
                               .shared_bytes = static_cast<int>(kTileRows * row_bytes),
                               .traffic = traffic};
    return launch(stream, Overlap::kYes, tiles, "route: logits", logits_tile_kernel, args);
  }
  const int64_t ahead_bytes = row_bytes + kWarps * args.proj.cols * 2;
  const bool ahead = in_eights && args.rows <= kFewRows && ahead_bytes <= most_shared;
  const LaunchShape shape = {.grid = dim3(grid(args.rows), grid(ceil_div(args.proj.rows, kWarps))),
                             .threads = kThreads,
                             .shared_bytes = static_cast<int>(ahead ? ahead_bytes : row_bytes),
                             .traffic = traffic};
  const Rows rows = ahead ? Rows::kAhead : in_eights ? Rows::kInEights : Rows::kPlain;
  with_format(args.proj.format, [&]<WeightFormat kFormat>() {
    launch(stream, Overlap::kYes, shape, "route: logits", logits_kernel<kFormat>, args, rows);
  });
}

void route_choice(cudaStream_t stream, const RouteArgs& args) {
  if (args.rows == 0) return;
  const auto kernel =
      args.proj.rows <= 4 * kWarp ? choose_kernel<4> : choose_kernel<kMostExperts / kWarp>;
  const LaunchShape shape = {.grid = dim3(grid(args.rows)),
                             .threads = kWarp,
                             .traffic = {args.rows * args.proj.rows * int64_t{sizeof(float)}}};
  launch(stream, Overlap::kYes, shape, "route: choice", kernel, args);
}

void route(cudaStream_t stream, const RouteArgs& args) {
  route_logits(stream, args);
  route_choice(stream, args);
}

}  // namespace facet::cuda
