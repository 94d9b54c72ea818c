// Writes K and V of the step's rows into their pages: bound by its launch.

#include "kernels/cuda/paged_kv.cuh"

namespace facet::cuda {
namespace {

constexpr int kThreads = 256;

/// Nearest, ties to even, saturating at 448; NaN stays NaN. As float_to_e4m3 (quant/float_formats).
__device__ uint8_t to_e4m3(float value) {
  uint16_t pair;
  asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(pair) : "f"(0.0F), "f"(value));
  return static_cast<uint8_t>(pair & 0xffu);
}

template <DType kType>
__device__ void store(std::byte* data, int64_t index, float value) {
  if constexpr (kType == DType::kF32) {
    reinterpret_cast<float*>(data)[index] = value;
  } else if constexpr (kType == DType::kBF16) {
    reinterpret_cast<uint16_t*>(data)[index] =
        static_cast<uint16_t>(__float_as_uint(round_to_bf16(value)) >> 16);
  } else {
    reinterpret_cast<uint8_t*>(data)[index] = to_e4m3(value);
  }
}

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
  store<kType>(kv.k, to, k[i] / kv.k_scale);
  store<kType>(kv.v, to, v[i] / kv.v_scale);
}

}  // namespace

void store_kv(
    cudaStream_t stream, const PagedKv& kv, const float* k, const float* v, int64_t rows) {
  const int64_t count = rows * kv.kv_heads * kv.head_dim;
  if (count == 0) return;
  with_kv_dtype(kv.dtype, [&]<DType kType>() {
    store_kv_kernel<kType>
        <<<grid(ceil_div(count, kThreads)), kThreads, 0, stream>>>(kv, k, v, count);
  });
  check_launch("store_kv");
}

}  // namespace facet::cuda
