// Ops that touch each value once: bound by bytes, in decode by their launches.

#include "kernels/cuda/activation.cuh"
#include "kernels/cuda/elementwise.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/mma.cuh"
#include "kernels/cuda/weight_value.cuh"

namespace facet::cuda {
namespace {

constexpr int kThreads = 256;

template <typename Body>
__global__ void __launch_bounds__(kThreads) for_each(int64_t count, Body body) {
  wait_for_previous();
  let_next_begin();
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i < count) body(i);
}

/// body(i) for each i < count, each of which moves `each` bytes.
template <typename Body>
void run(cudaStream_t stream, const char* name, int64_t count, int64_t each, const Body& body) {
  if (count == 0) return;
  const LaunchShape shape = {.grid = dim3(grid(ceil_div(count, kThreads))),
                             .threads = kThreads,
                             .traffic = {count * each}};
  launch(stream, Overlap::kYes, shape, name, for_each<Body>, count, body);
}

/// An extended lambda may not stand in a generic one.
template <WeightFormat kFormat>
struct Embed {
  float* out;
  WeightMatrix w;
  const int32_t* ids;
  float scale;
  __device__ void operator()(int64_t i) const {
    out[i] = weight_value<kFormat>(w, ids[i / w.cols], i % w.cols) * scale;
  }
};

}  // namespace

void embed(cudaStream_t stream,
           float* out,
           const WeightMatrix& table,
           const int32_t* ids,
           int64_t rows,
           float scale) {
  with_format(table.format, [&]<WeightFormat kFormat>() {
    run(stream, "embed", rows * table.cols, 4 + row_bytes(table) / table.cols,
        Embed<kFormat>{out, table, ids, scale});
  });
}

void activate(cudaStream_t stream,
              float* out,
              const float* gate,
              const float* up,
              int64_t count,
              ActivationFunction function) {
  run(stream, "activate", count, gate == nullptr ? 8 : 12, [=] __device__(int64_t i) {
    out[i] = gate == nullptr ? apply(function, up[i]) : __fmul_rn(apply(function, gate[i]), up[i]);
  });
}

void add(cudaStream_t stream, float* x, const float* y, int64_t count) {
  run(stream, "add", count, 12, [=] __device__(int64_t i) { x[i] += y[i]; });
}

void scale(cudaStream_t stream, float* x, int64_t count, float factor) {
  run(stream, "scale", count, 8, [=] __device__(int64_t i) { x[i] *= factor; });
}

void soft_cap(cudaStream_t stream, float* x, int64_t count, float cap) {
  run(stream, "soft_cap", count, 8, [=] __device__(int64_t i) { x[i] = soft_capped(x[i], cap); });
}

void gather_rows(cudaStream_t stream,
                 float* out,
                 const float* x,
                 const int32_t* rows,
                 int64_t count,
                 int64_t width) {
  run(stream, "gather_rows", count * width, 8,
      [=] __device__(int64_t i) { out[i] = x[rows[i / width] * width + i % width]; });
}

void rope(cudaStream_t stream,
          float* x,
          const int32_t* positions,
          const float* frequencies,
          int64_t rows,
          int64_t heads,
          int32_t head_dim,
          int32_t angles) {
  run(stream, "rope", rows * heads * angles, 16, [=] __device__(int64_t i) {
    const int64_t angle_index = i % angles;
    const int64_t head = i / angles;
    const float angle =
        __fmul_rn(static_cast<float>(positions[head / heads]), frequencies[angle_index]);
    float sine;
    float cosine;
    sincosf(angle, &sine, &cosine);
    float* const first = x + head * head_dim + angle_index;
    float* const second = first + head_dim / 2;
    const float a = *first;
    const float b = *second;
    *first = a * cosine - b * sine;
    *second = b * cosine + a * sine;
  });
}

}  // namespace facet::cuda
