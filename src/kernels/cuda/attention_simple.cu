// Attention for any head size and cache dtype, written to be read: a block has one row and one
// query head; its warps take the visible positions in turn and are joined in order at the end.

#include "kernels/cuda/attention.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/paged_kv.cuh"
#include "kernels/cuda/reduce.cuh"

namespace facet::cuda {
namespace {

constexpr int kWarps = 4;

/// What a warp has gathered: acc = sum of exp(score - max) * v, sum = sum of exp(score - max).
template <int kPerLane>
struct Gathered {
  float max = -INFINITY;
  float sum = 0.0F;
  float acc[kPerLane] = {};

  __device__ void take(float score, const float (&v)[kPerLane]) {
    const float larger = fmaxf(max, score);
    const float old = max == -INFINITY ? 0.0F : expf(max - larger);
    const float now = expf(score - larger);
    sum = sum * old + now;
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) acc[i] = acc[i] * old + now * v[i];
    max = larger;
  }
};

/// Lane l has components l, l + 32, … of its head.
template <int kPerLane, DType kType>
__global__ void __launch_bounds__(kWarps* kWarp) attention_kernel(const AttentionArgs args) {
  __shared__ float maxima[kWarps];
  __shared__ float sums[kWarps];
  __shared__ float accs[kWarps][kPerLane * kWarp];
  const PagedKv& kv = args.kv;
  const int lane = threadIdx.x % kWarp;
  const int warp = threadIdx.x / kWarp;
  const int64_t row = blockIdx.x;
  const auto head = static_cast<int32_t>(blockIdx.y);
  const int32_t kv_head = head / (args.q_heads / kv.kv_heads);
  const int64_t at = (row * args.q_heads + head) * kv.head_dim;
  const int32_t* table = table_of_row(kv, row);
  const int32_t last = kv.positions[row];
  const int32_t first = args.window > 0 ? max(0, last - args.window + 1) : 0;

  float q[kPerLane];
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) {
    const int d = lane + i * kWarp;
    q[i] = d < kv.head_dim ? args.q[at + d] : 0.0F;
  }
  Gathered<kPerLane> mine;
  for (int32_t j = first + warp; j <= last; j += kWarps) {
    const int64_t place = kv_place(kv, table, kv_head, j);
    float score = 0.0F;
    float v[kPerLane];
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) {
      const int d = lane + i * kWarp;
      const bool there = d < kv.head_dim;
      score = fmaf(q[i], there ? kv_value<kType>(kv.k, place + d) : 0.0F, score);
      v[i] = there ? kv_value<kType>(kv.v, place + d) * kv.v_scale : 0.0F;
    }
    mine.take(warp_sum(score) * kv.k_scale, v);
  }

  if (lane == 0) {
    maxima[warp] = mine.max;
    sums[warp] = mine.sum;
  }
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) accs[warp][lane + i * kWarp] = mine.acc[i];
  __syncthreads();
  float largest = maxima[0];
  for (int w = 1; w < kWarps; ++w) largest = fmaxf(largest, maxima[w]);
  float factors[kWarps];
  float sum = 0.0F;
#pragma unroll
  for (int w = 0; w < kWarps; ++w) {
    factors[w] = maxima[w] == -INFINITY ? 0.0F : expf(maxima[w] - largest);
    sum += factors[w] * sums[w];
  }
  for (int d = threadIdx.x; d < kv.head_dim; d += kWarps * kWarp) {
    float value = 0.0F;
#pragma unroll
    for (int w = 0; w < kWarps; ++w) value += factors[w] * accs[w][d];
    args.out[at + d] = value / sum;
  }
}

}  // namespace

void attention_simple(cudaStream_t stream, const AttentionArgs& args) {
  if (args.rows == 0) return;
  const LaunchShape shape = {.grid = dim3(grid(args.rows), grid(args.q_heads)),
                             .threads = kWarps * kWarp,
                             .traffic = {bytes_of(args, args.rows, args.positions)}};
  with_kv_dtype(args.kv.dtype, [&]<DType kType>() {
    const auto run = [&]<int kPerLane>() {
      launch(stream, Overlap::kNo, shape, "attention (plain)", attention_kernel<kPerLane, kType>,
             args);
    };
    if (args.kv.head_dim <= 2 * kWarp) {
      run.template operator()<2>();
    } else if (args.kv.head_dim <= 8 * kWarp) {
      run.template operator()<8>();
    } else {
      run.template operator()<16>();
    }
  });
}

}  // namespace facet::cuda
