#pragma once

// Products of more than 16 tokens, tiles of 64 or 128 rows (tiled.cuh; on Hopper, for more than 32
// tokens, wide.cuh): bound by the bytes of w up to some 100 tokens, by tensor cores and L2 beyond.
// x is rounded to BF16 once, before. Where the tiles of a matrix are fewer than the SMs, or end in
// a wave that leaves many idle, four CTAs of a cluster share one, a chunk of K each, and join their
// sums through each other's shared memory, in the order of the chunks.

#include "kernels/cuda/linear_kernels.h"
#include "kernels/cuda/out_scale.cuh"
#include "kernels/cuda/wide.cuh"

namespace facet::cuda {
namespace {

template <class F, bool kWide>
__global__ void __launch_bounds__(256) pack_kernel(const LinearBands args, uint8_t* packed) {
  wait_for_previous();
  let_next_begin();
  const int eights = args.w.steps * 8;
  const int64_t i = int64_t{blockIdx.x} * 256 + threadIdx.x;
  if (i >= int64_t{args.tokens} * eights) return;
  const int64_t token = i / eights;
  const int eight = static_cast<int>(i % eights);
  const uint4 x = load_x8<F>(args.x + token * args.cols, eight, args.cols);
  const int place = F::place(eight);
  if constexpr (kWide) {
    store_wide(packed + (token * eights + place / 8 * 8) * 16, place % 8, x);
  } else {
    reinterpret_cast<uint4*>(packed)[token * eights + place] = x;
  }
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

/// One finished fragment of a tile.
__device__ __forceinline__ void store_fragment(const LinearBands& args,
                                               int row,
                                               int64_t token,
                                               const float (&c)[4]) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int r = row + i / 2 * 8;
    const int64_t t = token + i % 2;
    if (r < args.rows && t < args.tokens)
      args.out[t * args.rows + r] = apply_scale(args.scale, c[i], r);
  }
}

/// What a CTA has of its cluster's tile, in the float [T::kTokens][T::kRows] at `partial`, becomes
/// a share of the result: the sums of all chunks, in order.
template <class T>
__device__ __forceinline__ void join_chunks(
    const LinearBands& args, const float* partial, int rank, int first_row, int first_token) {
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
    store_fragment(args, first_row + row, first_token + token, c);
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
  auto* partial = reinterpret_cast<float*>(shared);
  for_each_fragment<T>(sums, [&](int row, int token, const float(&c)[4]) {
#pragma unroll
    for (int i = 0; i < 4; ++i) partial[(token + i % 2) * T::kRows + row + i / 2 * 8] = c[i];
  });
  join_chunks<T>(args, partial, rank, first_row, first_token);
}

/// A tile of a warpgroup or two. kSplit: a chunk of K, in the CTAs of a cluster.
template <class T, bool kSplit>
__global__ void __launch_bounds__(T::kThreads, T::kGroups == 1 ? 2 : 1)
    wide_kernel(const LinearBands args, const uint8_t* packed) {
  extern __shared__ __align__(1024) uint8_t shared[];
  __shared__ uint64_t tokens[T::kTokens];
  const int first_token = blockIdx.x * T::kTokens;
  const int first_row = blockIdx.y * T::kRows;
  const int rank = kSplit ? static_cast<int>(cluster_rank()) : 0;
  uint8_t* stages = wide_stages(shared);
  find_tokens<T>(tokens, args, packed, first_token);
  wait_for_previous();
  let_next_begin();
  WideSums<T> sums;
  const TileWork work = {args.w, static_cast<int>(blockIdx.y) * T::kBands, tokens,
                         args.tokens - first_token};
  multiply_wide<T, kSplit>(sums, stages, work, kSplit ? chunk_begin(args.w.steps, rank) : 0,
                           kSplit ? chunk_begin(args.w.steps, rank + 1) : args.w.steps);
  if constexpr (kSplit) {
    __syncthreads();
    auto* partial = reinterpret_cast<float*>(stages);
    for_each_wide_fragment<T>(sums, [&](int row, int token, const float(&c)[4]) {
#pragma unroll
      for (int i = 0; i < 4; ++i) partial[(token + i % 2) * T::kRows + row + i / 2 * 8] = c[i];
    });
    join_chunks<T>(args, partial, rank, first_row, first_token);
  } else {
    for_each_wide_fragment<T>(sums, [&](int row, int token, const float(&c)[4]) {
      store_fragment(args, first_row + row, first_token + token, c);
    });
  }
}

constexpr int64_t kProcessors = 132;

template <class T>
void launch_tiled(cudaStream_t stream,
                  Overlap overlap,
                  const LinearBands& args,
                  const uint8_t* packed) {
  const dim3 tiles(grid(ceil_div(args.tokens, T::kTokens)), grid(ceil_div(args.rows, T::kRows)));
  const LaunchShape shape = {.grid = tiles,
                             .threads = T::kThreads,
                             .shared_bytes = T::kSharedBytes,
                             .traffic = traffic_of(args, 2)};
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
  const LaunchShape shape = {.grid = tiles,
                             .threads = T::kThreads,
                             .shared_bytes = T::kSharedBytes,
                             .cluster_z = kChunks,
                             .traffic = traffic_of(args, 2)};
  launch(stream, overlap, shape, "linear_tiled (split)", split_kernel<T>, args, packed);
}

template <class T, bool kSplit>
void launch_wide(cudaStream_t stream,
                 Overlap overlap,
                 const LinearBands& args,
                 const uint8_t* packed) {
  const dim3 tiles(grid(ceil_div(args.tokens, T::kTokens)), grid(ceil_div(args.rows, T::kRows)),
                   kSplit ? kChunks : 1);
  const LaunchShape shape = {.grid = tiles,
                             .threads = T::kThreads,
                             .shared_bytes = T::kSharedBytes,
                             .cluster_z = kSplit ? kChunks : 1u,
                             .traffic = traffic_of(args, 2)};
  launch(stream, overlap, shape, kSplit ? "linear_wide (split)" : "linear_wide",
         wide_kernel<T, kSplit>, args, packed);
}

/// Tiles of kTokens tokens: of 128 rows where they fill the SMs, each taking one; else of 64, two
/// of which share an SM; where these are few, of 64 rows in four chunks. Measured on an H200,
/// November 2026 (cuda_products time).
template <class F, int kTokens>
void run_wide(cudaStream_t stream,
              Overlap overlap,
              const LinearBands& args,
              const uint8_t* packed) {
  using Low = WideTiling<F, 1, kTokens, 4>;
  using High = WideTiling<F, 2, kTokens, 5>;
  const int64_t across = ceil_div(args.tokens, kTokens);
  const int64_t high = ceil_div(args.rows, High::kRows) * across;
  const int64_t low = ceil_div(args.rows, Low::kRows) * across;
  if (low < 100 && chunks_of(args.w.steps) == kChunks)
    return launch_wide<Low, true>(stream, overlap, args, packed);
  // In hundredths of the time of one wave of high tiles.
  const int64_t rest = low % (2 * kProcessors);
  const int64_t low_time = low / (2 * kProcessors) * 110 + (rest > kProcessors ? 110
                                                            : rest > 0         ? 60
                                                                               : 0);
  if (low_time < ceil_div(high, kProcessors) * 100)
    return launch_wide<Low, false>(stream, overlap, args, packed);
  launch_wide<High, false>(stream, overlap, args, packed);
}

template <class F>
void pack_x(
    cudaStream_t stream, Overlap overlap, const LinearBands& args, uint8_t* packed, bool wide) {
  const LaunchShape shape = {
      .grid = dim3(grid(ceil_div(int64_t{args.tokens} * args.w.steps * 8, 256))),
      .threads = 256,
      .traffic = {int64_t{args.tokens} * args.cols * (int64_t{sizeof(float)} + 2)}};
  launch(stream, overlap, shape, "pack_x", wide ? pack_kernel<F, true> : pack_kernel<F, false>,
         args, packed);
}

}  // namespace

template <class F>
void linear_tiled(cudaStream_t stream, Overlap overlap, const LinearBands& args, uint8_t* packed) {
  const bool wide = args.tokens > 32 && device_has_wgmma();
  pack_x<F>(stream, overlap, args, packed, wide);
  if (wide && args.tokens <= 64) return run_wide<F, 64>(stream, overlap, args, packed);
  if (wide) return run_wide<F, 128>(stream, overlap, args, packed);
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
