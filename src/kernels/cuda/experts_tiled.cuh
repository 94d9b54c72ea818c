#pragma once

// Experts of many rows: the pairs are sorted by expert, each expert takes its tokens in items of at
// most item_tokens, and each item meets its weights in tiles of 128 rows (tiled.cuh; large items on
// Hopper: wide.cuh). Bound by the bytes of all chosen experts up to some 200 rows, by tensor cores
// and the decoding of NVFP4 beyond.

#include "kernels/cuda/experts_bands.cuh"
#include "kernels/cuda/wide.cuh"

namespace facet::cuda {
namespace {

constexpr int kSortThreads = 1024;

/// Inclusive sum over the lanes before and including this one.
__device__ __forceinline__ int scan_lanes(int value) {
#pragma unroll
  for (int by = 1; by < kWarp; by *= 2) {
    const int other = __shfl_up_sync(kAllLanes, value, by);
    if (static_cast<int>(threadIdx.x % kWarp) >= by) value += other;
  }
  return value;
}

/// One warp: where each expert's pairs begin among the sorted, and the items in order of experts.
__device__ __forceinline__ void list_items(const ExpertsWork& work,
                                           const int* counts,
                                           int* begins) {
  int pairs_before = 0;
  int items_before = 0;
  for (int base = 0; base < work.layer.count; base += kWarp) {
    const int e = base + static_cast<int>(threadIdx.x);
    const int count = e < work.layer.count ? counts[e] : 0;
    const int items = (count + work.item_tokens - 1) / work.item_tokens;
    const int pairs_end = pairs_before + scan_lanes(count);
    const int items_end = items_before + scan_lanes(items);
    if (e < work.layer.count) begins[e] = pairs_end - count;
    for (int i = 0; i < items; ++i) {
      int* item = work.items + 1 + 3 * (items_end - items + i);
      item[0] = e;
      item[1] = pairs_end - count + i * work.item_tokens;
      item[2] = min(count - i * work.item_tokens, work.item_tokens);
    }
    pairs_before = __shfl_sync(kAllLanes, pairs_end, kWarp - 1);
    items_before = __shfl_sync(kAllLanes, items_end, kWarp - 1);
  }
  if (threadIdx.x == 0) work.items[0] = items_before;
}

/// CTA 0 sorts the pairs by expert and lists the items; the others round x to BF16. Where a pair
/// comes to stand among those of its expert is left to chance: its result does not depend on it.
template <class F>
__global__ void __launch_bounds__(kSortThreads) prepare_kernel(const ExpertsWork work) {
  wait_for_previous();
  let_next_begin();
  if (blockIdx.x > 0) {
    const int eights = work.hidden_steps * 8;
    const int64_t i = int64_t{blockIdx.x - 1} * kSortThreads + threadIdx.x;
    if (i >= int64_t{work.rows} * eights) return;
    const int64_t row = i / eights;
    const int eight = static_cast<int>(i % eights);
    const uint4 x = load_x8<F>(work.x + row * work.layer.hidden, eight, work.layer.hidden);
    const int place = F::place(eight);
    if (work.wide) {
      store_wide(work.packed + (row * eights + place / 8 * 8) * 16, place % 8, x);
    } else {
      reinterpret_cast<uint4*>(work.packed)[row * eights + place] = x;
    }
    return;
  }
  extern __shared__ int counts[];  // [E], then where each expert's pairs begin [E]
  int* begins = counts + work.layer.count;
  const int pairs = work.rows * work.top_k;
  for (int e = threadIdx.x; e < work.layer.count; e += kSortThreads) counts[e] = 0;
  __syncthreads();
  for (int p = threadIdx.x; p < pairs; p += kSortThreads) atomicAdd(counts + work.chosen[p], 1);
  __syncthreads();
  if (threadIdx.x < kWarp) list_items(work, counts, begins);
  __syncthreads();
  for (int p = threadIdx.x; p < pairs; p += kSortThreads)
    work.sorted[atomicAdd(begins + work.chosen[p], 1)] = p;
}

struct Item {
  int expert;
  int first;
  int count;
};

/// The item of this CTA; its expert is -1 if there are no more.
__device__ __forceinline__ Item find_item(const ExpertsWork& work) {
  if (static_cast<int>(blockIdx.y) >= work.items[0]) return {-1, 0, 0};
  const int* item = work.items + 1 + 3 * blockIdx.y;
  return {item[0], item[1], item[2]};
}

/// pairs[i] = pair i of the item; tokens[i] = its operand: rows of `base` by pair / divisor.
template <class T>
__device__ void find_tokens(const ExpertsWork& work,
                            const Item& item,
                            const uint8_t* base,
                            int64_t pitch,
                            int divisor,
                            int* pairs,
                            uint64_t* tokens) {
  for (int i = threadIdx.x; i < T::kTokens; i += T::kThreads) {
    const int pair = i < item.count ? work.sorted[item.first + i] : 0;
    pairs[i] = pair;
    tokens[i] = i < item.count ? reinterpret_cast<uint64_t>(base + pair / divisor * pitch) : 0;
  }
  __syncthreads();
}

/// CTAs that should find room on an SM: small tiles have little to do between their barriers.
template <class T, bool kWide>
constexpr int kResident = kWide                      ? 1
                          : T::kTokens <= kFewTokens ? 4
                                                     : 2;

/// Runs the tile's product over all steps and calls body(row, token, four sums) for its fragments.
template <class T, bool kWide, class Body>
__device__ __forceinline__ void for_each_product(uint8_t* shared,
                                                 const TileWork& work,
                                                 const Body& body) {
  if constexpr (kWide) {
    WideSums<T> sums;
    multiply_wide<T, false>(sums, wide_stages(shared), work, 0, work.w.steps);
    for_each_wide_fragment<T>(sums, body);
  } else {
    Sums<T> sums;
    multiply<T>(sums, shared, work, 0, work.w.steps);
    for_each_fragment<T>(sums, body);
  }
}

/// Grid: [ceil(bands / T::kBands), max_items].
template <class T, bool kWide>
__global__ void __launch_bounds__(T::kThreads, kResident<T, kWide>)
    gate_up_kernel(const ExpertsWork work) {
  using F = typename T::Format;
  extern __shared__ __align__(1024) uint8_t shared[];
  __shared__ int pairs[T::kTokens];
  __shared__ uint64_t tokens[T::kTokens];
  wait_for_previous();
  let_next_begin();
  const Item item = find_item(work);
  if (item.expert < 0) return;
  find_tokens<T>(work, item, work.packed, int64_t{work.hidden_steps} * kStepBytesX, work.top_k,
                 pairs, tokens);
  const ExpertPointers e = work.layer.experts[item.expert];
  const BandSource w = gate_up_bands<F>(work, e);
  const int first_band = static_cast<int>(blockIdx.x) * T::kBands;
  for_each_product<T, kWide>(
      shared, {w, first_band, tokens, item.count}, [&](int row, int token, const float(&c)[4]) {
        const int f = (first_band + row / 16) * 8 + row % 16;
        if (f >= work.width_steps * kStep) return;
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          if (token + i < item.count)
            store_inner<F>(work, pairs[token + i], f, activated<F>(work, e, c[i], c[2 + i]));
        }
      });
}

template <class T, bool kWide>
__global__ void __launch_bounds__(T::kThreads, kResident<T, kWide>)
    down_kernel(const ExpertsWork work) {
  using F = typename T::Format;
  extern __shared__ __align__(1024) uint8_t shared[];
  __shared__ int pairs[T::kTokens];
  __shared__ uint64_t tokens[T::kTokens];
  wait_for_previous();
  let_next_begin();
  const Item item = find_item(work);
  if (item.expert < 0) return;
  find_tokens<T>(work, item, work.inner, int64_t{work.width_steps} * kStepBytesX, 1, pairs, tokens);
  const ExpertPointers e = work.layer.experts[item.expert];
  const BandSource w = down_bands<F>(work, e);
  const float factor = __fmul_rn(e.down_scale, kGainOf<F>);
  for_each_product<T, kWide>(
      shared, {w, static_cast<int>(blockIdx.x) * T::kBands, tokens, item.count},
      [&](int row, int token, const float(&c)[4]) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int h = static_cast<int>(blockIdx.x) * T::kRows + row + i / 2 * 8;
          const int at = token + i % 2;
          if (h < work.layer.hidden && at < item.count)
            work.parts[int64_t{pairs[at]} * work.layer.hidden + h] = __fmul_rn(c[i], factor);
        }
      });
}

/// out[t] = sum of weight * part, in the order of the choices.
__global__ void __launch_bounds__(256) combine_kernel(const ExpertsWork work) {
  wait_for_previous();
  let_next_begin();
  const int64_t i = int64_t{blockIdx.x} * 256 + threadIdx.x;
  if (i >= int64_t{work.rows} * work.layer.hidden) return;
  const int64_t t = i / work.layer.hidden;
  const int64_t h = i % work.layer.hidden;
  float sum = 0.0F;
  for (int64_t pair = t * work.top_k; pair < (t + 1) * work.top_k; ++pair)
    sum = __fmaf_rn(work.weights[pair], work.parts[pair * work.layer.hidden + h], sum);
  work.out[i] = sum;
}

template <class T, bool kWide>
void launch_products(cudaStream_t stream, Overlap overlap, const ExpertsWork& work) {
  const int64_t gate_up_bands = int64_t{work.width_steps} * 8;  // zeros beyond the width
  const LaunchShape gate_up = {
      .grid = dim3(grid(ceil_div(gate_up_bands, T::kBands)), grid(work.max_items)),
      .threads = T::kThreads,
      .shared_bytes = T::kSharedBytes,
      .traffic = gate_up_traffic(work, 2)};
  launch(stream, overlap, gate_up, "experts: gate and up", gate_up_kernel<T, kWide>, work);
  const LaunchShape down = {
      .grid = dim3(grid(ceil_div(work.layer.hidden, T::kRows)), grid(work.max_items)),
      .threads = T::kThreads,
      .shared_bytes = T::kSharedBytes,
      .traffic = down_traffic(work, int64_t{work.rows} * work.top_k)};
  launch(stream, overlap, down, "experts: down", down_kernel<T, kWide>, work);
}

}  // namespace

template <class F>
void experts_tiled(cudaStream_t stream, Overlap overlap, const ExpertsWork& work) {
  const int64_t packing = ceil_div(int64_t{work.rows} * work.hidden_steps * 8, kSortThreads);
  const LaunchShape prepare = {dim3(grid(1 + packing)), kSortThreads,
                               2 * work.layer.count * static_cast<int>(sizeof(int))};
  launch(stream, overlap, prepare, "experts: sort", prepare_kernel<F>, work);
  if (work.wide) {
    launch_products<WideTiling<F, 3, kManyTokens, 5>, true>(stream, overlap, work);
  } else if (work.item_tokens == kFewTokens) {
    launch_products<Tiling<F, 8, 1, 1, kFewTokens / 8, 5>, false>(stream, overlap, work);
  } else {
    launch_products<Tiling<F, 8, 1, 1, kManyTokens / 8, 4>, false>(stream, overlap, work);
  }
  const LaunchShape combine = {
      .grid = dim3(grid(ceil_div(int64_t{work.rows} * work.layer.hidden, 256))),
      .threads = 256,
      .traffic = {int64_t{work.rows} * work.layer.hidden * (work.top_k + 1) *
                  int64_t{sizeof(float)}}};
  launch(stream, overlap, combine, "experts: combine", combine_kernel, work);
}

}  // namespace facet::cuda
