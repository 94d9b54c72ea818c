#include "kernels/cuda/launch.h"
#include "kernels/cuda/order.cuh"
#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/top_logits.h"

namespace facet::cuda {
namespace {

constexpr int kGroups = 512;
constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarp;
constexpr int kChooseWarps = kGroups / kWarp;
constexpr int kChooseBlocks = 32;  // of a row: each looks through its share of the groups

/// maxima[r, g]: the largest logit of a group of ids, -infinity of an empty one, NaN if one of them
/// is not a finite number. A warp a group. Begins the count of out[r].
__global__ void __launch_bounds__(kThreads) maxima_kernel(
    TopRow* out, float* maxima, const float* logits, int64_t width, int64_t group_size) {
  if (blockIdx.x == 0 && threadIdx.x == 0) out[blockIdx.y].count = 0;
  const int group = static_cast<int>(blockIdx.x) * kWarps + static_cast<int>(threadIdx.x) / kWarp;
  const float* row = logits + blockIdx.y * width;
  const int64_t begin = group * group_size;
  const int64_t end = begin + group_size < width ? begin + group_size : width;
  float largest = -INFINITY;
  bool broken = false;
#pragma unroll 8
  for (int64_t id = begin + threadIdx.x % kWarp; id < end; id += kWarp) {
    const float logit = row[id];
    broken = broken || !isfinite(logit);
    largest = fmaxf(largest, logit);
  }
  largest = warp_max(largest);
  broken = __any_sync(kAllLanes, broken) != 0;
  if (threadIdx.x % kWarp == 0) maxima[blockIdx.y * kGroups + group] = broken ? NAN : largest;
}

/// kChooseBlocks a row (x), a thread a group: the threshold, by each for itself, then the logits of
/// the block's groups that reach it.
__global__ void __launch_bounds__(kGroups) choose_kernel(
    TopRow* out, const float* maxima, const float* logits, int64_t width, int64_t group_size) {
  __shared__ float each[kGroups];
  const int thread = static_cast<int>(threadIdx.x);
  const float found = maxima[blockIdx.y * kGroups + thread];
  const bool broken = isnan(found);
  each[thread] = broken ? -INFINITY : found;
  const unsigned mine = order_of(each[thread]);
  const bool any_broken = __syncthreads_or(broken) != 0;
  // The largest that so many groups reach, bit by bit.
  unsigned reached = 0;
#pragma unroll 1
  for (unsigned bit = 1U << 31U; bit != 0; bit >>= 1U) {
    if (__syncthreads_count(mine >= (reached | bit)) >= kTopWanted) reached |= bit;
  }
  const float threshold = float_of_order(reached);
  TopRow& to = out[blockIdx.y];
  if (blockIdx.x == 0 && thread == 0) to.finite = any_broken ? 0 : 1;
  const float* row = logits + blockIdx.y * width;
  for (int g = static_cast<int>(blockIdx.x) * kChooseWarps + thread / kWarp; g < kGroups;
       g += kChooseBlocks * kChooseWarps) {
    if (each[g] < threshold || any_broken) continue;
    const int64_t begin = g * group_size;
    const int64_t end = begin + group_size < width ? begin + group_size : width;
#pragma unroll 8
    for (int64_t id = begin + thread % kWarp; id < end; id += kWarp) {
      const float logit = row[id];
      if (logit < threshold) continue;
      const int at = atomicAdd(&to.count, 1);
      if (at < kTopRoom) to.entries[at] = {logit, static_cast<int32_t>(id)};
    }
  }
}

}  // namespace

int64_t top_workspace_bytes(int64_t rows) { return rows * kGroups * int64_t{sizeof(float)}; }

void select_top(cudaStream_t stream,
                TopRow* out,
                const float* logits,
                int64_t rows,
                int64_t width,
                std::byte* workspace) {
  if (rows == 0) return;
  auto* maxima = reinterpret_cast<float*>(workspace);
  const int64_t group_size = ceil_div(width, kGroups);
  const LaunchShape search = {.grid = dim3(kGroups / kWarps, grid(rows)),
                              .threads = kThreads,
                              .traffic = {rows * width * int64_t{sizeof(float)}}};
  launch(stream, Overlap::kNo, search, "top logits: maxima", maxima_kernel, out, maxima, logits,
         width, group_size);
  const LaunchShape choice = {.grid = dim3(kChooseBlocks, grid(rows)),
                              .threads = kGroups,
                              .traffic = {rows * int64_t{sizeof(TopRow)}}};
  launch(stream, Overlap::kNo, choice, "top logits: choice", choose_kernel, out, maxima, logits,
         width, group_size);
}

}  // namespace facet::cuda
