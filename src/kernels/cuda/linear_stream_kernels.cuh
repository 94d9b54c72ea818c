#pragma once

// The kernels around stream_bands and their launcher. A file for each format instantiates it.

#include <algorithm>

#include "kernels/cuda/linear_stream.cuh"
#include "kernels/cuda/route.cuh"
#include "kernels/cuda/row_norm.cuh"
#include "kernels/gpu_limits.h"

namespace facet::cuda {

/// x as it stands.
template <class F, int kBlocks, int kGroups>
__global__ void __launch_bounds__(kGroups* kGroupThreads)
    stream_kernel(const __grid_constant__ StreamWork work) {
  extern __shared__ __align__(128) uint8_t shared[];
  stream_bands<F, kBlocks, kGroups, kStreamStages<F, kGroups>>(work, work.all_bands, blockIdx.x,
                                                               gridDim.x, shared, [&](uint8_t* x) {
                                                                 let_next_begin();
                                                                 wait_for_previous();
                                                                 stage_plain<F>(work, x);
                                                               });
}

inline constexpr int kNormedPer = kNormedCols / kRowThreads;

/// The stream settled and normed, rounded into `x` in F's order.
template <class F>
__device__ __forceinline__ void stage_normed(const StreamWork& work,
                                             uint8_t* x,
                                             RowParts& parts,
                                             bool writes) {
  const int steps = work.parts[0].w.steps;
  for (int token = 0; token < work.tokens; ++token) {
    RowValues<kNormedPer> values;
    float inverse;
    settle_row(work.stream, token, token, parts, values, inverse);
    if (writes) values.store(work.stream.x_out + int64_t{token} * work.cols, work.cols);
    RowValues<kNormedPer> weights;
    weights.load_weights(work.norm, work.cols);
    auto* to = reinterpret_cast<uint16_t*>(x + token * pitch_of(steps));
#pragma unroll
    for (int k = 0; k < kNormedPer; ++k) {
      const int i = threadIdx.x + k * kRowThreads;
      if (i >= steps * kStep) continue;
      const float normed = __fmul_rn(__fmul_rn(values.v[k], inverse), weights.v[k]);
      to[position_of<F>(i)] = static_cast<uint16_t>(pack_bf16(i < work.cols ? normed : 0.0F, 0.0F));
    }
  }
  __syncthreads();
}

/// The logits of a block's experts, a warp an expert.
/// `shared`: the experts' rows of proj, then z. Not inlined: it would take registers from the
/// streaming blocks.
inline __device__ __noinline__ void route_block(const StreamWork& work,
                                                int block,
                                                uint8_t* shared,
                                                RowParts& parts) {
  const StreamRouter& router = work.router;
  const int warp = threadIdx.x / kWarp;
  const int lane = threadIdx.x % kWarp;
  const int expert = block * kRouterExperts + warp;
  const bool is_expert = warp < kRouterExperts && expert < router.count;
  const int row_bytes = work.cols * 2;
  const auto* row = reinterpret_cast<const uint4*>(shared + warp * row_bytes);
  auto* z = reinterpret_cast<float*>(shared + kRouterExperts * row_bytes);
  const uint64_t policy = evict_first();
  if (is_expert) {
    const std::byte* from = router.proj + int64_t{expert} * row_bytes;
    for (int unit = lane; unit * 16 < row_bytes; unit += kWarp)
      copy_async_once(shared_address(row + unit), from + unit * 16, true, policy);
  }
  copy_commit();
  let_next_begin();
  const float root = router_root(work.cols);
  wait_for_previous();
  for (int token = 0; token < work.tokens; ++token) {
    RowValues<kNormedPer> values;
    float inverse;
    settle_row(work.stream, token, token, parts, values, inverse);
    if (block == 0) values.store_norm(router.sparse, token, work.cols, inverse);
    RowValues<kNormedPer> scale;
    scale.load_weights(router.scale, work.cols);
#pragma unroll
    for (int k = 0; k < kNormedPer; ++k) {
      const int i = threadIdx.x + k * kRowThreads;
      if (i < work.cols) z[i] = router_input(values.v[k], inverse, scale.v[k], root);
    }
    copy_wait<0>();
    __syncthreads();
    if (is_expert) {
      const float logit = router_logit_bf16(z, row, work.cols);
      if (lane == 0) router.logits[token * router.count + expert] = logit;
    }
    __syncthreads();
  }
  if (router.routed != nullptr && threadIdx.x == 0) {
    __threadfence();
    atomicAdd(router.routed, 1);
  }
}

/// x is the norm of the stream. The first blocks are the router's, which others wait for. Two find
/// room on an SM, so that the next kernel can fill its rings.
template <class F, int kGroups>
__global__ void __launch_bounds__(kRowThreads, 2)
    normed_kernel(const __grid_constant__ StreamWork work) {
  extern __shared__ __align__(128) uint8_t shared[];
  __shared__ RowParts parts;
  const int blocks = gridDim.x - work.router.blocks;
  const int block = static_cast<int>(blockIdx.x) - work.router.blocks;
  if (block < 0) return route_block(work, blockIdx.x, shared, parts);
  stream_bands<F, 1, kGroups, kStreamStages<F, kGroups>>(
      work, work.all_bands, block, blocks, shared, [&](uint8_t* x) {
        let_next_begin();
        wait_for_previous();
        stage_normed<F>(work, x, parts, block == 0);
      });
}

/// Shared memory of a CTA, beside what the kernel declares.
inline int most_shared() {
  return std::min(226 * 1024, most_shared_bytes() - static_cast<int>(kLinearStreamStatic));
}
inline constexpr int kProcessors = 132;

/// Bands per CTA: with more tokens, x should serve more rows and take more threads to round, and so
/// it should where each CTA norms; else small CTAs begin and end at more times of their own. Few
/// bands should take more SMs, very many keep all busy anyhow. Measured on an H200, November 2026
/// (facet bench model, the large model's step of 1 to 8 tokens).
inline int choose_groups(const StreamWork& work) {
  const int bands = work.all_bands;
  const int tokens = work.tokens;
  if (bands < kProcessors) return tokens <= 4 ? 1 : 2;
  const bool many = bands >= 3 * kProcessors;
  const bool norms = work.x == nullptr;
  if (tokens > 4 || bands >= 16 * kProcessors || (norms && many)) return 4;
  if (norms) return 2;
  return tokens == 1 || (tokens == 2 && !many) ? 1 : 2;
}

/// linear_stream_fits() is of one row and one group.
template <class F>
constexpr int kStreamFixed = kStreamRing<F, 1, kStreamStages<F, 1>> + kStreamPartial<1, 1>;
static_assert(kStreamFixed<Bf16Steps> == linear_stream_fixed_bytes(WeightFormat::kBF16) &&
              kStreamFixed<Fp8Steps> == linear_stream_fixed_bytes(WeightFormat::kFp8) &&
              kStreamFixed<Nvfp4Steps> == linear_stream_fixed_bytes(WeightFormat::kNvfp4) &&
              pitch_of(3) == stream_row_bytes(3 * kStep) &&
              sizeof(RowParts) + 16 <= kLinearStreamStatic);

template <class F, int kGroups, int kBlocks>
int stream_bytes(const StreamWork& work) {
  const int ring = kStreamRing<F, kGroups, kStreamStages<F, kGroups>>;
  const int streamed =
      ring + kStreamPartial<kGroups, kBlocks> + work.tokens * pitch_of(work.steps());
  const int routed = work.router.blocks == 0 ? 0 : kRouterExperts * work.cols * 2 + work.cols * 4;
  return streamed > routed ? streamed : routed;
}

template <class F, int kGroups, int kBlocks>
void launch_stream(cudaStream_t stream, Overlap overlap, const StreamWork& work) {
  const bool normed = work.x == nullptr;
  const int bytes = stream_bytes<F, kGroups, kBlocks>(work);
  const int resident = std::max(1, most_shared() / (bytes + 1024));
  const int64_t most = kProcessors * (resident < 4 / kGroups + 1 ? resident : 4 / kGroups + 1);
  const int64_t wanted = ceil_div(work.all_bands, kGroups);
  const int64_t blocks = (wanted < most ? wanted : most) + work.router.blocks;
  const unsigned threads = normed ? kRowThreads : kGroups * kGroupThreads;
  const LaunchShape shape = {.grid = dim3(grid(blocks)),
                             .threads = threads,
                             .shared_bytes = bytes,
                             .traffic = traffic_of(work)};
  const char* name = !normed                  ? "linear_stream"
                     : work.router.blocks > 0 ? "norm, gate and up, router"
                     : work.gated             ? "norm, gate and up"
                                              : "norm, linear_stream";
  if constexpr (kBlocks == 1) {
    if (normed) return launch(stream, overlap, shape, name, normed_kernel<F, kGroups>, work);
  }
  launch(stream, overlap, shape, name, stream_kernel<F, kBlocks, kGroups>, work);
}

template <class F, int kBlocks>
void launch_groups(cudaStream_t stream, Overlap overlap, const StreamWork& work, int groups) {
  if (groups == 4 && stream_bytes<F, 4, kBlocks>(work) <= most_shared())
    return launch_stream<F, 4, kBlocks>(stream, overlap, work);
  if (groups >= 2 && stream_bytes<F, 2, kBlocks>(work) <= most_shared())
    return launch_stream<F, 2, kBlocks>(stream, overlap, work);
  launch_stream<F, 1, kBlocks>(stream, overlap, work);
}

template <class F>
bool stream_fits(const StreamWork& work) {
  return (work.tokens <= 8 ? stream_bytes<F, 1, 1>(work) : stream_bytes<F, 1, 2>(work)) <=
         most_shared();
}

template <class F>
void linear_stream(cudaStream_t stream, Overlap overlap, const StreamWork& work, int groups) {
  if (groups == 0) groups = choose_groups(work);
  if (work.tokens <= 8) return launch_groups<F, 1>(stream, overlap, work, groups);
  launch_groups<F, 2>(stream, overlap, work, groups);
}

}  // namespace facet::cuda
