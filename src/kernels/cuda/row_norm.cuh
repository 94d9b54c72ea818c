#pragma once

// The norm of a row, and the residual stream brought up to date, with sums whose order does not
// depend on the launch: as if 512 threads in 16 warps took element t, t + 512, … each by
// multiply-add, a warp's lanes were added by a butterfly and warps from the first to the last.
// Products and sums are asked for by name, so that every file that includes this gets the same
// bits.

#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/residual.h"

namespace facet::cuda {

inline constexpr int kRowThreads = 512;
inline constexpr int kRowWarps = kRowThreads / kWarp;

/// Sums of the row's warps, for reductions one after another: a thread may still read one while
/// others write the next.
struct RowParts {
  float of[2][3][2][kRowWarps];  // rows in turn, reductions of a row, up to two sums at once
};

__device__ inline float sum_parts(const float (&parts)[kRowWarps]) {
  float sum = 0.0F;
#pragma unroll
  for (int i = 0; i < kRowWarps; ++i) sum = __fadd_rn(sum, parts[i]);
  return sum;
}

__device__ inline float inverse_of(float squares, int64_t width, float eps) {
  return 1.0F / sqrtf(__fadd_rn(squares / static_cast<float>(width), eps));
}

/// (mean(row²) + eps)^(-1/2) of a row in memory, in all of kThreads threads of a block.
template <int kThreads>
__device__ float inverse_rms(const float* row, int64_t width, float eps) {
  static_assert(kThreads <= kRowThreads && kRowThreads % kThreads == 0);
  __shared__ float parts[kRowWarps];
  const int lane = threadIdx.x % kWarp;
#pragma unroll
  for (int w = threadIdx.x / kWarp; w < kRowWarps; w += kThreads / kWarp) {
    float sum = 0.0F;
    for (int64_t i = w * kWarp + lane; i < width; i += kRowThreads)
      sum = __fmaf_rn(row[i], row[i], sum);
    sum = warp_sum(sum);
    if (lane == 0) parts[w] = sum;
  }
  __syncthreads();
  const float sum = sum_parts(parts);
  __syncthreads();
  return inverse_of(sum, width, eps);
}

/// A row in the registers of kRowThreads threads: thread t has elements t, t + 512, …; zeros beyond
/// the width.
template <int kPer>
struct RowValues {
  float v[kPer];

  /// Past L1: other kernels wrote it, maybe since this one began.
  __device__ void load(const float* row, int width) {
#pragma unroll
    for (int k = 0; k < kPer; ++k) {
      const int i = threadIdx.x + k * kRowThreads;
      v[k] = i < width ? __ldcg(row + i) : 0.0F;
    }
  }
  /// What no kernel writes.
  __device__ void load_weights(const float* row, int width) {
#pragma unroll
    for (int k = 0; k < kPer; ++k) {
      const int i = threadIdx.x + k * kRowThreads;
      v[k] = i < width ? __ldg(row + i) : 0.0F;
    }
  }
  __device__ void store(float* row, int width) const {
#pragma unroll
    for (int k = 0; k < kPer; ++k) {
      const int i = threadIdx.x + k * kRowThreads;
      if (i < width) row[i] = v[k];
    }
  }
  __device__ void store_norm(const NormOut& norm, int64_t row, int width, float inverse) const {
    if (norm.out == nullptr) return;
    RowValues weights;
    weights.load_weights(norm.weight, width);
    store_norm(norm, weights, row, width, inverse);
  }
  /// The same with the norm's weights loaded.
  __device__ void store_norm(
      const NormOut& norm, const RowValues& weights, int64_t row, int width, float inverse) const {
    if (norm.out == nullptr) return;
#pragma unroll
    for (int k = 0; k < kPer; ++k) {
      const int i = threadIdx.x + k * kRowThreads;
      if (i < width) norm.out[row * width + i] = __fmul_rn(__fmul_rn(v[k], inverse), weights.v[k]);
    }
  }
  /// The warp's sum of squares, in its lanes.
  __device__ float squares() const {
    float sum = 0.0F;
#pragma unroll
    for (int k = 0; k < kPer; ++k) sum = __fmaf_rn(v[k], v[k], sum);
    return warp_sum(sum);
  }
};

/// The weights of what is pending: no kernel writes them, so they can be on their way while the
/// kernel still waits for the one before it.
template <int kPer>
struct PendingWeights {
  RowValues<kPer> branch;
  RowValues<kPer> sparse;
  RowValues<kPer> norm;

  __device__ void load(const ResidualArgs& args) {
    if (args.branch == nullptr) return;
    norm.load_weights(args.norm, args.width);
    if (args.sparse == nullptr) return;
    branch.load_weights(args.branch_norm, args.width);
    sparse.load_weights(args.sparse_norm, args.width);
  }
};

/// Row `row` of the stream with what is pending added, in kRowThreads threads; `inverse`: of its
/// norm. `turn` counts the rows that the block has taken. `loaded`: the weights, if they are there;
/// else each is loaded where it is wanted, since kernels that stream have few registers to spare.
template <int kPer>
__device__ __forceinline__ void settle_row(const ResidualArgs& args,
                                           int64_t row,
                                           int turn,
                                           RowParts& shared,
                                           RowValues<kPer>& x,
                                           float& inverse,
                                           const PendingWeights<kPer>* loaded = nullptr) {
  auto& parts = shared.of[turn % 2];
  const int warp = threadIdx.x / kWarp;
  const bool first_lane = threadIdx.x % kWarp == 0;
  const int width = args.width;
  const auto weights_of = [&](const RowValues<kPer> PendingWeights<kPer>::*which,
                              const float* row_of) {
    if (loaded != nullptr) return loaded->*which;
    RowValues<kPer> weights;
    weights.load_weights(row_of, width);
    return weights;
  };
  x.load(args.x + row * width, width);
  if (args.branch != nullptr) {
    RowValues<kPer> y;
    y.load(args.branch + row * width, width);
    if (args.sparse != nullptr) {
      RowValues<kPer> sparse;
      sparse.load(args.sparse + row * width, width);
      const RowValues<kPer> branch_weights =
          weights_of(&PendingWeights<kPer>::branch, args.branch_norm);
      const RowValues<kPer> sparse_weights =
          weights_of(&PendingWeights<kPer>::sparse, args.sparse_norm);
      const float y_squares = y.squares();
      const float sparse_squares = sparse.squares();
      if (first_lane) {
        parts[0][0][warp] = y_squares;
        parts[0][1][warp] = sparse_squares;
      }
      __syncthreads();
      const float y_inverse = inverse_of(sum_parts(parts[0][0]), width, args.eps);
      const float sparse_inverse = inverse_of(sum_parts(parts[0][1]), width, args.eps);
#pragma unroll
      for (int k = 0; k < kPer; ++k) {
        y.v[k] = __fadd_rn(__fmul_rn(__fmul_rn(y.v[k], y_inverse), branch_weights.v[k]),
                           __fmul_rn(__fmul_rn(sparse.v[k], sparse_inverse), sparse_weights.v[k]));
      }
    }
    const RowValues<kPer> weights = weights_of(&PendingWeights<kPer>::norm, args.norm);
    const float squares = y.squares();
    if (first_lane) parts[1][0][warp] = squares;
    __syncthreads();
    const float y_inverse = inverse_of(sum_parts(parts[1][0]), width, args.eps);
#pragma unroll
    for (int k = 0; k < kPer; ++k) {
      const float normed = __fmul_rn(__fmul_rn(y.v[k], y_inverse), weights.v[k]);
      x.v[k] = __fmul_rn(__fadd_rn(x.v[k], normed), args.factor);
    }
  }
  const float squares = x.squares();
  if (first_lane) parts[2][0][warp] = squares;
  __syncthreads();
  inverse = inverse_of(sum_parts(parts[2][0]), width, args.eps);
}

}  // namespace facet::cuda
