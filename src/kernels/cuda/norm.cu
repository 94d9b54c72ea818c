// RMS norms and what is fused with them, a block a row: bound by bytes, in decode by their
// launches.

#include "kernels/cuda/launch.h"
#include "kernels/cuda/mma.cuh"
#include "kernels/cuda/norm.h"
#include "kernels/cuda/row_norm.cuh"

namespace facet::cuda {
namespace {

template <int kThreads>
__global__ void __launch_bounds__(kThreads)
    rms_norm_kernel(float* out, const float* x, const float* weight, int64_t width, float eps) {
  wait_for_previous();
  let_next_begin();
  const float* from = x + blockIdx.x * width;
  float* to = out + blockIdx.x * width;
  const float inverse = inverse_rms<kThreads>(from, width, eps);
  for (int64_t i = threadIdx.x; i < width; i += kThreads) {
    const float normed = __fmul_rn(from[i], inverse);
    to[i] = weight == nullptr ? normed : __fmul_rn(normed, weight[i]);
  }
}

template <int kThreads>
__global__ void __launch_bounds__(kThreads) add_rms_norm_kernel(
    float* x, const float* h, const float* weight, int64_t width, float eps, float factor) {
  wait_for_previous();
  let_next_begin();
  const float* from = h + blockIdx.x * width;
  float* to = x + blockIdx.x * width;
  const float inverse = inverse_rms<kThreads>(from, width, eps);
  for (int64_t i = threadIdx.x; i < width; i += kThreads) {
    const float normed = __fmul_rn(__fmul_rn(from[i], inverse), weight[i]);
    to[i] = __fmul_rn(__fadd_rn(to[i], normed), factor);
  }
}

template <int kThreads>
__global__ void __launch_bounds__(kThreads) join_branches_kernel(float* dense,
                                                                 const float* sparse,
                                                                 const float* dense_weight,
                                                                 const float* sparse_weight,
                                                                 int64_t width,
                                                                 float eps) {
  wait_for_previous();
  let_next_begin();
  float* to = dense + blockIdx.x * width;
  const float* from = sparse + blockIdx.x * width;
  const float dense_inverse = inverse_rms<kThreads>(to, width, eps);
  const float sparse_inverse = inverse_rms<kThreads>(from, width, eps);
  for (int64_t i = threadIdx.x; i < width; i += kThreads) {
    to[i] = __fadd_rn(__fmul_rn(__fmul_rn(to[i], dense_inverse), dense_weight[i]),
                      __fmul_rn(__fmul_rn(from[i], sparse_inverse), sparse_weight[i]));
  }
}

/// A block a row; each row moves `vectors` times its values.
LaunchShape shape_of(int64_t rows, int threads, int64_t width, int64_t vectors) {
  return {.grid = dim3(grid(rows)),
          .threads = static_cast<unsigned>(threads),
          .traffic = {rows * width * vectors * int64_t{sizeof(float)}}};
}

template <int kPer>
__global__ void __launch_bounds__(kRowThreads)
    settle_kernel(const ResidualArgs args, const NormOut first, const NormOut second) {
  __shared__ RowParts parts;
  let_next_begin();
  PendingWeights<kPer> weights;
  weights.load(args);
  RowValues<kPer> first_weights;
  RowValues<kPer> second_weights;
  if (first.out != nullptr) first_weights.load_weights(first.weight, args.width);
  if (second.out != nullptr) second_weights.load_weights(second.weight, args.width);
  wait_for_previous();
  const int64_t row = blockIdx.x;
  RowValues<kPer> x;
  float inverse;
  settle_row(args, row, 0, parts, x, inverse, &weights);
  if (args.branch != nullptr || args.x_out != args.x)
    x.store(args.x_out + row * args.width, args.width);
  x.store_norm(first, first_weights, row, args.width, inverse);
  x.store_norm(second, second_weights, row, args.width, inverse);
}

/// Calls `body` with threads for a row of `width`; sums do not depend on them.
template <typename Body>
void with_threads(int64_t width, const Body& body) {
  if (width <= 128) {
    body.template operator()<32>();
  } else if (width <= 1024) {
    body.template operator()<128>();
  } else {
    body.template operator()<512>();
  }
}

}  // namespace

void rms_norm(cudaStream_t stream,
              float* out,
              const float* x,
              const float* weight,
              int64_t rows,
              int64_t width,
              float eps) {
  if (rows == 0) return;
  with_threads(width, [&]<int kThreads>() {
    launch(stream, Overlap::kYes, shape_of(rows, kThreads, width, 2), "rms_norm",
           rms_norm_kernel<kThreads>, out, x, weight, width, eps);
  });
}

void add_rms_norm(cudaStream_t stream,
                  float* x,
                  const float* h,
                  const float* weight,
                  int64_t rows,
                  int64_t width,
                  float eps,
                  float factor) {
  if (rows == 0) return;
  with_threads(width, [&]<int kThreads>() {
    launch(stream, Overlap::kYes, shape_of(rows, kThreads, width, 3), "add_rms_norm",
           add_rms_norm_kernel<kThreads>, x, h, weight, width, eps, factor);
  });
}

void join_branches(cudaStream_t stream,
                   float* dense,
                   const float* sparse,
                   const float* dense_weight,
                   const float* sparse_weight,
                   int64_t rows,
                   int64_t width,
                   float eps) {
  if (rows == 0) return;
  with_threads(width, [&]<int kThreads>() {
    launch(stream, Overlap::kYes, shape_of(rows, kThreads, width, 3), "join_branches",
           join_branches_kernel<kThreads>, dense, sparse, dense_weight, sparse_weight, width, eps);
  });
}

void settle(cudaStream_t stream,
            const ResidualArgs& args,
            const NormOut& first,
            const NormOut& second,
            int64_t rows) {
  if (rows == 0) return;
  const int64_t vectors = 1 + (args.branch != nullptr) + (args.sparse != nullptr) +
                          (args.branch != nullptr || args.x_out != args.x) +
                          (first.out != nullptr) + (second.out != nullptr);
  const LaunchShape shape = shape_of(rows, kRowThreads, args.width, vectors);
  const auto kernel = args.width <= kRowThreads       ? settle_kernel<1>
                      : args.width <= 6 * kRowThreads ? settle_kernel<6>
                                                      : settle_kernel<12>;
  launch(stream, Overlap::kYes, shape, "settle", kernel, args, first, second);
}

}  // namespace facet::cuda
