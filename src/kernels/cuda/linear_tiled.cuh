#pragma once

// Products of more than 16 tokens, tiles of 64 or 128 rows (tiled.cuh): bound by the bytes of w up
// to some 100 tokens, by tensor cores and L2 beyond. x is rounded to BF16 once, before. Where the
// tiles of a matrix are fewer than the SMs, four CTAs of a cluster share one, a chunk of K each,
// and join their sums through each other's shared memory, in the order of the chunks.

#include "kernels/cuda/linear_kernels.h"
#include "kernels/cuda/out_scale.cuh"
#include "kernels/cuda/tiled.cuh"

namespace facet::cuda {
namespace {

template <class F>
__global__ void __launch_bounds__(256) pack_kernel(const LinearBands args, uint8_t* packed) {
  wait_for_previous();
  let_next_begin();
  const int eights = args.w.steps * 8;
  const int64_t i = int64_t{blockIdx.x} * 256 + threadIdx.x;
  if (i >= int64_t{args.tokens} * eights) return;
  const int64_t token = i / eights;
  const int eight = static_cast<int>(i % eights);
  reinterpret_cast<uint4*>(packed)[token * eights + F::place(eight)] =
      load_x8<F>(args.x + token * args.cols, eight, args.cols);
}

/// Sets tokens[i] to the packed x of token first + i.
template <class T>
__device__ void find_tokens(uint64_t* tokens,
                            const LinearBands& args,
                            const uint8_t* packed,
                            int first) {
  for (int i = threadIdx.x; i < T::kTokens; i += T::kThreads) {
    const int64_t token = first + i;
    tokens[i] = token < args.tokens
                    ? reinterpret_cast<uint64_t>(packed + token * args.w.steps * kStepBytesX)
                    : 0;
  }
  __syncthreads();
}

template <class T>
__global__ void __launch_bounds__(T::kThreads)
    tiled_kernel(const LinearBands args, const uint8_t* packed) {
  extern __shared__ __align__(128) uint8_t shared[];
  __shared__ uint64_t tokens[T::kTokens];
  const int first_token = blockIdx.x * T::kTokens;
  const int first_row = blockIdx.y * T::kRows;
  find_tokens<T>(tokens, args, packed, first_token);
  wait_for_previous();
  let_next_begin();
  Sums<T> sums;
  const TileWork work = {args.w, static_cast<int>(blockIdx.y) * T::kBands, tokens,
                         args.tokens - first_token};
  multiply<T>(sums, shared, work, 0, args.w.steps);
  for_each_fragment<T>(sums, [&](int row, int token, const float(&c)[4]) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int r = first_row + row + i / 2 * 8;
      const int64_t t = first_token + token + i % 2;
      if (r < args.rows && t < args.tokens)
        args.out[t * args.rows + r] = apply_scale(args.scale, c[i], r);
    }
  });
}

/// The same with the four chunks of K in the CTAs of a cluster.
template <class T>
__global__ void __launch_bounds__(T::kThreads)
    split_kernel(const LinearBands args, const uint8_t* packed) {
  extern __shared__ __align__(128) uint8_t shared[];
  __shared__ uint64_t tokens[T::kTokens];
  static_assert(T::kRows * T::kTokens * 4 <= T::kSharedBytes);
  const int first_token = blockIdx.x * T::kTokens;
  const int first_row = blockIdx.y * T::kRows;
  const int rank = static_cast<int>(cluster_rank());
  find_tokens<T>(tokens, args, packed, first_token);
  wait_for_previous();
  let_next_begin();
  Sums<T> sums;
  const TileWork work = {args.w, static_cast<int>(blockIdx.y) * T::kBands, tokens,
                         args.tokens - first_token};
  multiply<T>(sums, shared, work, chunk_begin(args.w.steps, rank),
              chunk_begin(args.w.steps, rank + 1));
  __syncthreads();
  auto* partial = reinterpret_cast<float*>(shared);  // [T::kTokens][T::kRows]
  for_each_fragment<T>(sums, [&](int row, int token, const float(&c)[4]) {
#pragma unroll
    for (int i = 0; i < 4; ++i) partial[(token + i % 2) * T::kRows + row + i / 2 * 8] = c[i];
  });
  cluster_sync();
  constexpr int kShare = T::kTokens * T::kRows / kChunks;
  for (int i = rank * kShare + threadIdx.x; i < (rank + 1) * kShare; i += T::kThreads) {
    const int r = first_row + i % T::kRows;
    const int64_t t = first_token + i / T::kRows;
    if (r >= args.rows || t >= args.tokens) continue;
    float sum = 0.0F;
#pragma unroll
    for (int c = 0; c < kChunks; ++c)
      sum = __fadd_rn(sum, load_cluster(shared_address(partial + i), static_cast<uint32_t>(c)));
    args.out[t * args.rows + r] = apply_scale(args.scale, sum, r);
  }
  cluster_sync();  // nobody leaves while others read here
}

constexpr int64_t kProcessors = 132;

template <class T>
void launch_tiled(cudaStream_t stream,
                  Overlap overlap,
                  const LinearBands& args,
                  const uint8_t* packed) {
  const dim3 tiles(grid(ceil_div(args.tokens, T::kTokens)), grid(ceil_div(args.rows, T::kRows)));
  const LaunchShape shape = {tiles, T::kThreads, T::kSharedBytes};
  launch(stream, overlap, shape, "linear_tiled", tiled_kernel<T>, args, packed);
}

template <class T>
void launch_narrow(cudaStream_t stream,
                   Overlap overlap,
                   const LinearBands& args,
                   const uint8_t* packed) {
  const dim3 tiles(grid(ceil_div(args.tokens, T::kTokens)), grid(ceil_div(args.rows, T::kRows)),
                   kChunks);
  if (chunks_of(args.w.steps) != kChunks || int64_t{tiles.x} * tiles.y >= 3 * kProcessors ||
      !has_clusters())
    return launch_tiled<T>(stream, overlap, args, packed);
  const LaunchShape shape = {tiles, T::kThreads, T::kSharedBytes, kChunks};
  launch(stream, overlap, shape, "linear_tiled (split)", split_kernel<T>, args, packed);
}

}  // namespace

template <class F>
void pack_x(cudaStream_t stream, Overlap overlap, const LinearBands& args, uint8_t* packed) {
  const LaunchShape shape = {dim3(grid(ceil_div(int64_t{args.tokens} * args.w.steps * 8, 256))),
                             256};
  launch(stream, overlap, shape, "pack_x", pack_kernel<F>, args, packed);
}

template <class F>
void linear_tiled(cudaStream_t stream, Overlap overlap, const LinearBands& args, uint8_t* packed) {
  pack_x<F>(stream, overlap, args, packed);
  if (args.tokens <= 16)
    return launch_narrow<Tiling<F, 4, 1, 1, 2, 6>>(stream, overlap, args, packed);
  if (args.tokens <= 32)
    return launch_narrow<Tiling<F, 4, 1, 1, 4, 5>>(stream, overlap, args, packed);
  using Large = Tiling<F, 4, 2, 2, 8, 5>;
  const int64_t large = ceil_div(args.rows, Large::kRows) * ceil_div(args.tokens, Large::kTokens);
  if (args.tokens <= 64 || large < kProcessors - 8 || Large::kSharedBytes > most_shared_bytes())
    return launch_narrow<Tiling<F, 4, 1, 1, 8, 4>>(stream, overlap, args, packed);
  launch_tiled<Large>(stream, overlap, args, packed);
}

}  // namespace facet::cuda
