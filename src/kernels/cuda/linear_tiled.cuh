#pragma once

// Products of more than 16 tokens, tiles of 64 or 128 rows (tiled.cuh; on Hopper, for more than 32
// tokens, wide.cuh): bound by the bytes of w up to some 100 tokens, by tensor cores and L2 beyond.
// x is rounded to BF16 once, before. Where the tiles of a matrix are fewer than the SMs, or end in
// a wave that leaves many idle, four CTAs of a cluster share one, a chunk of K each, and join their
// sums through each other's shared memory, in the order of the chunks.

#include "kernels/cuda/activation.cuh"
#include "kernels/cuda/linear_kernels.h"
#include "kernels/cuda/out_scale.cuh"
#include "kernels/cuda/wide.cuh"

namespace facet::cuda {
namespace {

/// packed = x [tokens, cols], rounded, in F's order or wide.
template <class F, bool kWide>
__global__ void __launch_bounds__(256)
    pack_kernel(const float* x, int tokens, int cols, int steps, uint8_t* packed) {
  wait_for_previous();
  let_next_begin();
  const int eights = steps * 8;
  const int64_t i = int64_t{blockIdx.x} * 256 + threadIdx.x;
  if (i >= int64_t{tokens} * eights) return;
  const int64_t token = i / eights;
  const int eight = static_cast<int>(i % eights);
  const uint4 values = load_x8<F>(x + token * cols, eight, cols);
  const int place = F::place(eight);
  if constexpr (kWide) {
    store_wide(packed + (token * eights + place / 8 * 8) * 16, place % 8, values);
  } else {
    reinterpret_cast<uint4*>(packed)[token * eights + place] = values;
  }
}

/// Sets tokens[i] to the packed x of token first + i.
template <class T>
__device__ void find_tokens(
    uint64_t* tokens, int count, int steps, const uint8_t* packed, int first) {
  for (int i = threadIdx.x; i < T::kTokens; i += T::kThreads) {
    const int64_t token = first + i;
    tokens[i] =
        token < count ? reinterpret_cast<uint64_t>(packed + token * steps * kStepBytesX) : 0;
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
  find_tokens<T>(tokens, args.tokens, args.w.steps, packed, first_token);
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
  find_tokens<T>(tokens, args.tokens, args.w.steps, packed, first_token);
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

/// One sum of a tile's band, or a pair of them where gate and up stand in it: `sums(row)` is that
/// of a row of the band, `first` < 8.
template <class SumOf>
__device__ __forceinline__ void store_rows(const StreamWork& work,
                                           const StreamPart& part,
                                           int band,
                                           int first,
                                           int64_t token,
                                           const SumOf& sum_of) {
  if (token >= work.tokens) return;
  float* out = part.out + token * part.rows;
  if (work.gated) {
    const int row = band * 8 + first;
    if (row >= part.rows) return;
    const float gate = apply_scale(part.scale, sum_of(0), row);
    const float up = apply_scale(part.upper_scale, sum_of(8), row);
    out[row] = __fmul_rn(apply(work.function, gate), up);
    return;
  }
#pragma unroll
  for (int half = 0; half < 16; half += 8) {
    const int row = band * 16 + first + half;
    if (row < part.rows) out[row] = apply_scale(part.scale, sum_of(half), row);
  }
}

/// A tile of a warpgroup or two, of one of the parts. kSplit: a chunk of K, in the CTAs of a
/// cluster.
template <class T, bool kSplit>
__global__ void __launch_bounds__(T::kThreads, T::kGroups == 1 ? 2 : 1)
    wide_kernel(const __grid_constant__ StreamWork work, const uint8_t* packed) {
  extern __shared__ __align__(1024) uint8_t shared[];
  __shared__ uint64_t tokens[T::kTokens];
  int which = 0;
  int tile = static_cast<int>(blockIdx.y);
  for (int tiles; tile >= (tiles = (work.parts[which].w.bands + T::kBands - 1) / T::kBands);
       tile -= tiles)
    ++which;
  const StreamPart& part = work.parts[which];
  const BandSource w = part.w;  // in registers: the copies look at it all the time
  const int first_token = blockIdx.x * T::kTokens;
  const int first_band = tile * T::kBands;
  const int rank = kSplit ? static_cast<int>(cluster_rank()) : 0;
  const int steps = w.steps;
  uint8_t* stages = wide_stages(shared);
  find_tokens<T>(tokens, work.tokens, steps, packed, first_token);
  wait_for_previous();
  let_next_begin();
  WideSums<T> sums;
  const TileWork product = {w, first_band, tokens, work.tokens - first_token};
  multiply_wide<T, kSplit>(sums, stages, product, kSplit ? chunk_begin(steps, rank) : 0,
                           kSplit ? chunk_begin(steps, rank + 1) : steps);
  if constexpr (!kSplit) {
    for_each_wide_fragment<T>(sums, [&](int row, int token, const float(&c)[4]) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        store_rows(work, part, first_band + row / 16, row % 16, first_token + token + i,
                   [&](int half) { return half == 0 ? c[i] : c[2 + i]; });
      }
    });
    return;
  }
  __syncthreads();
  auto* partial = reinterpret_cast<float*>(stages);  // [T::kTokens][T::kRows]
  for_each_wide_fragment<T>(sums, [&](int row, int token, const float(&c)[4]) {
#pragma unroll
    for (int i = 0; i < 4; ++i) partial[(token + i % 2) * T::kRows + row + i / 2 * 8] = c[i];
  });
  cluster_sync();
  constexpr int kShare = T::kTokens * T::kRows / 2 / kChunks;  // two rows at once, of one band
  for (int i = rank * kShare + threadIdx.x; i < (rank + 1) * kShare; i += T::kThreads) {
    const int row = i % (T::kRows / 2) / 8 * 16 + i % 8;
    const int token = i / (T::kRows / 2);
    store_rows(work, part, first_band + row / 16, row % 16, first_token + token, [&](int half) {
      const uint32_t at = shared_address(partial + token * T::kRows + row + half);
      float sum = 0.0F;
#pragma unroll
      for (int c = 0; c < kChunks; ++c)
        sum = __fadd_rn(sum, load_cluster(at, static_cast<uint32_t>(c)));
      return sum;
    });
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

template <class T>
int64_t tiles_of(const StreamWork& work) {
  int64_t tiles = 0;
  for (int i = 0; i < work.count; ++i) tiles += ceil_div(work.parts[i].w.bands, T::kBands);
  return tiles;
}

template <class T, bool kSplit>
void launch_wide(cudaStream_t stream,
                 Overlap overlap,
                 const StreamWork& work,
                 const uint8_t* packed) {
  const LaunchShape shape = {.grid = dim3(grid(ceil_div(work.tokens, T::kTokens)),
                                          grid(tiles_of<T>(work)), kSplit ? kChunks : 1),
                             .threads = T::kThreads,
                             .shared_bytes = T::kSharedBytes,
                             .cluster_z = kSplit ? kChunks : 1u,
                             .traffic = traffic_of(work)};
  launch(stream, overlap, shape, kSplit ? "linear_wide (split)" : "linear_wide",
         wide_kernel<T, kSplit>, work, packed);
}

/// Tiles of kTokens tokens: of 128 rows where they fill the SMs, each taking one; else of 64, two
/// of which share an SM; where these are few, of 64 rows in four chunks. Measured on an H200,
/// November 2026 (cuda_products time).
template <class F, int kTokens>
void run_wide(cudaStream_t stream, Overlap overlap, const StreamWork& work, const uint8_t* packed) {
  using Low = WideTiling<F, 1, kTokens, 4>;
  using High = WideTiling<F, 2, kTokens, 5>;
  const int64_t across = ceil_div(work.tokens, kTokens);
  const int64_t high = tiles_of<High>(work) * across;
  const int64_t low = tiles_of<Low>(work) * across;
  if (low < 100 && chunks_of(work.steps()) == kChunks)
    return launch_wide<Low, true>(stream, overlap, work, packed);
  // In hundredths of the time of one wave of high tiles.
  const int64_t rest = low % (2 * kProcessors);
  int64_t low_time = low / (2 * kProcessors) * 110;
  if (rest > 0) low_time += rest > kProcessors ? 110 : 60;
  if (low_time < ceil_div(high, kProcessors) * 100)
    return launch_wide<Low, false>(stream, overlap, work, packed);
  launch_wide<High, false>(stream, overlap, work, packed);
}

template <class F, bool kWide>
void pack_x(cudaStream_t stream,
            Overlap overlap,
            const float* x,
            int32_t tokens,
            int32_t cols,
            int32_t steps,
            uint8_t* packed) {
  const LaunchShape shape = {.grid = dim3(grid(ceil_div(int64_t{tokens} * steps * 8, 256))),
                             .threads = 256,
                             .traffic = {int64_t{tokens} * cols * (int64_t{sizeof(float)} + 2)}};
  launch(stream, overlap, shape, "pack_x", pack_kernel<F, kWide>, x, tokens, cols, steps, packed);
}

}  // namespace

template <class F>
void linear_wide(cudaStream_t stream, Overlap overlap, const StreamWork& work, uint8_t* packed) {
  pack_x<F, true>(stream, overlap, work.x, work.tokens, work.cols, work.steps(), packed);
  if (work.tokens <= 64) return run_wide<F, 64>(stream, overlap, work, packed);
  run_wide<F, 128>(stream, overlap, work, packed);
}

template <class F>
void linear_tiled(cudaStream_t stream, Overlap overlap, const LinearBands& args, uint8_t* packed) {
  pack_x<F, false>(stream, overlap, args.x, args.tokens, args.cols, args.w.steps, packed);
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
