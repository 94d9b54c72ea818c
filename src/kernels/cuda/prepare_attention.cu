// Norms and rotation of q and k, the norm of v, and the store into the cache: bound by its launch
// in decode, by bytes in prompts.

#include "kernels/cuda/head.cuh"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/mma.cuh"
#include "kernels/cuda/paged_kv.cuh"
#include "kernels/cuda/prepare_attention.h"

namespace facet::cuda {
namespace {

constexpr int kWarps = 4;

template <int kPerLane, DType kType>
__global__ void __launch_bounds__(kWarps* kWarp) prepare_kernel(const PrepareArgs args) {
  constexpr int kD = kPerLane * kWarp;
  wait_for_previous();
  let_next_begin();
  const int lane = threadIdx.x % kWarp;
  const int kv_heads = args.k == nullptr ? 0 : args.kv.kv_heads;
  const int heads = args.q_heads + 2 * kv_heads;  // q, k, v
  const int64_t index = int64_t{blockIdx.x} * kWarps + threadIdx.x / kWarp;
  const int64_t row = args.first_row + index / heads;
  if (row >= args.first_row + args.rows) return;
  const auto head = static_cast<int>(index % heads);
  const int32_t position = args.kv.positions[row];
  Head<kPerLane> mine;
  if (head < args.q_heads) {
    float* q = args.q + (row * args.q_heads + head) * kD;
    mine.load(q, lane);
    mine.norm(args.q_norm, args.eps, lane);
    mine.rotate(args.frequencies, args.angles, position, lane);
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) q[lane + i * kWarp] = mine.values[i];
    return;
  }
  const bool is_k = head < args.q_heads + kv_heads;
  const int kv_head = head - args.q_heads - (is_k ? 0 : kv_heads);
  mine.load((is_k ? args.k : args.v) + (row * kv_heads + kv_head) * kD, lane);
  mine.norm(is_k ? args.k_norm : nullptr, args.eps, lane);
  if (is_k) mine.rotate(args.frequencies, args.angles, position, lane);
  const int64_t place = kv_place(args.kv, table_of_row(args.kv, row), kv_head, position);
  std::byte* to = is_k ? args.kv.k : args.kv.v;
  const float scale = is_k ? args.kv.k_scale : args.kv.v_scale;
#pragma unroll
  for (int i = 0; i < kPerLane; ++i)
    store_kv_value<kType>(to, place + lane + i * kWarp, mine.values[i] / scale);
}

}  // namespace

bool prepare_fits(int32_t head_dim) { return head_dim == 256 || head_dim == 512; }

void prepare_attention(cudaStream_t stream, const PrepareArgs& args) {
  if (args.rows == 0) return;
  const int64_t heads = args.q_heads + (args.k == nullptr ? 0 : 2 * args.kv.kv_heads);
  const LaunchShape shape = {
      .grid = dim3(grid(ceil_div(args.rows * heads, kWarps))),
      .threads = kWarps * kWarp,
      .traffic = {args.rows * (heads + args.q_heads) * args.kv.head_dim * int64_t{sizeof(float)} +
                  args.rows * (heads - args.q_heads) * args.kv.head_dim * bits_of(args.kv.dtype) /
                      8}};
  with_kv_dtype(args.kv.dtype, [&]<DType kType>() {
    const auto kernel =
        args.kv.head_dim == 256 ? prepare_kernel<8, kType> : prepare_kernel<16, kType>;
    launch(stream, args.overlap, shape, "prepare_attention", kernel, args);
  });
}

}  // namespace facet::cuda
