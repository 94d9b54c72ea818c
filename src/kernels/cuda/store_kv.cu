// Writes K and V of the step's rows into their pages: bound by its launch.

#include "kernels/cuda/launch.h"
#include "kernels/cuda/paged_kv.cuh"

namespace facet::cuda {
namespace {

constexpr int kThreads = 256;

template <DType kType>
__global__ void __launch_bounds__(kThreads)
    store_kv_kernel(const PagedKv kv, const float* k, const float* v, int64_t count) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= count) return;
  const int64_t head = i / kv.head_dim;
  const int64_t row = head / kv.kv_heads;
  const auto kv_head = static_cast<int32_t>(head % kv.kv_heads);
  const int64_t to =
      kv_place(kv, table_of_row(kv, row), kv_head, kv.positions[row]) + i % kv.head_dim;
  store_kv_value<kType>(kv.k, to, k[i] / kv.k_scale);
  store_kv_value<kType>(kv.v, to, v[i] / kv.v_scale);
}

}  // namespace

void store_kv(
    cudaStream_t stream, const PagedKv& kv, const float* k, const float* v, int64_t rows) {
  const int64_t count = rows * kv.kv_heads * kv.head_dim;
  if (count == 0) return;
  const LaunchShape shape = {
      .grid = dim3(grid(ceil_div(count, kThreads))),
      .threads = kThreads,
      .traffic = {2 * count * (int64_t{sizeof(float)} + bits_of(kv.dtype) / 8)}};
  with_kv_dtype(kv.dtype, [&]<DType kType>() {
    launch(stream, Overlap::kNo, shape, "store_kv", store_kv_kernel<kType>, kv, k, v, count);
  });
}

}  // namespace facet::cuda
