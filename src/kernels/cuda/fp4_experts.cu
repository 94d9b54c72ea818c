// W4A4 of routed experts: the pairs (row, choice) are sorted by expert, x is quantised for each,
// gate and up are two lists of products, act(gate) * up is quantised again, then `down`, and each
// row's results are added in the order of its choices. Bound as fp4_products() is.
//
// A pair's place among the sorted is its slot. The scales of an expert's slots begin at a multiple
// of 128 rows, as their layout wants.

#include "kernels/cuda/activation.cuh"
#include "kernels/cuda/carver.h"
#include "kernels/cuda/fp4_experts.h"
#include "kernels/cuda/fp4_quantize.cuh"

namespace facet::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kSortThreads = 1024;
constexpr int32_t kPassRows = 1024;

struct Work {
  Fp4ExpertsCall call;
  int32_t pairs = 0;
  int64_t tiles = 0;  // of 128 rows of scales, at most

  int32_t* begins = nullptr;       // [E]: the first slot
  int32_t* tile_begins = nullptr;  // [E]: the first tile of scales
  int32_t* counts = nullptr;       // [E]
  int32_t* taken = nullptr;        // [E]
  int32_t* pair_of = nullptr;      // [pairs], by slot
  int32_t* slot_of = nullptr;      // [pairs], by pair
  uint8_t* x_codes = nullptr;      // [pairs, H / 2]
  uint8_t* x_scales = nullptr;
  float* gate = nullptr;           // [pairs, F]
  float* up = nullptr;             // [pairs, F]
  uint8_t* inner_codes = nullptr;  // [pairs, F / 2]
  uint8_t* inner_scales = nullptr;
  float* parts = nullptr;          // [pairs, H]
  Fp4Product* products = nullptr;  // [3 E]: gate, up, down
  std::byte* room = nullptr;       // of fp4_products()
};

int64_t carve(Work& work, std::byte* workspace) {
  const Fp4Layer& layer = work.call.layer;
  const int64_t pairs = int64_t{work.call.rows} * work.call.top_k;
  work.pairs = static_cast<int32_t>(pairs);
  work.tiles = pairs / 128 + (pairs < layer.count ? pairs : layer.count);
  Carver carver(workspace);
  work.begins = carver.take<int32_t>(layer.count);
  work.tile_begins = carver.take<int32_t>(layer.count);
  work.counts = carver.take<int32_t>(layer.count);
  work.taken = carver.take<int32_t>(layer.count);
  work.pair_of = carver.take<int32_t>(pairs);
  work.slot_of = carver.take<int32_t>(pairs);
  work.x_codes = carver.take<uint8_t>(pairs * layer.hidden / 2);
  work.x_scales = carver.take<uint8_t>(fp4_scale_bytes(work.tiles, layer.hidden));
  work.gate = carver.take<float>(pairs * layer.width);
  work.up = carver.take<float>(pairs * layer.width);
  work.inner_codes = carver.take<uint8_t>(pairs * layer.width / 2);
  work.inner_scales = carver.take<uint8_t>(fp4_scale_bytes(work.tiles, layer.width));
  work.parts = carver.take<float>(pairs * layer.hidden);
  work.products = carver.take<Fp4Product>(3 * int64_t{layer.count});
  work.room = carver.take<std::byte>(fp4_workspace_bytes(2 * layer.count));
  return carver.used();
}

/// One block. Where a pair comes to stand among those of its expert is left to chance: its result
/// does not depend on it.
__global__ void __launch_bounds__(kSortThreads) sort_kernel(const Work work) {
  const Fp4Layer& layer = work.call.layer;
  for (int e = threadIdx.x; e < layer.count; e += kSortThreads) work.counts[e] = work.taken[e] = 0;
  __syncthreads();
  for (int p = threadIdx.x; p < work.pairs; p += kSortThreads)
    atomicAdd(work.counts + work.call.chosen[p], 1);
  __syncthreads();
  if (threadIdx.x == 0) {
    int slot = 0;
    int tile = 0;
    for (int e = 0; e < layer.count; ++e) {
      work.begins[e] = slot;
      work.tile_begins[e] = tile;
      slot += work.counts[e];
      tile += (work.counts[e] + 127) / 128;
    }
  }
  __syncthreads();
  for (int p = threadIdx.x; p < work.pairs; p += kSortThreads) {
    const int e = work.call.chosen[p];
    const int slot = work.begins[e] + atomicAdd(work.taken + e, 1);
    work.pair_of[slot] = p;
    work.slot_of[p] = slot;
  }
  for (int e = threadIdx.x; e < layer.count; e += kSortThreads) {
    const Fp4Expert& expert = layer.experts[e];
    const int64_t begin = work.begins[e];
    const Fp4Operand x = {work.x_codes + begin * layer.hidden / 2,
                          work.x_scales + fp4_scale_bytes(work.tile_begins[e], layer.hidden)};
    const Fp4Operand inner = {
        work.inner_codes + begin * layer.width / 2,
        work.inner_scales + fp4_scale_bytes(work.tile_begins[e], layer.width)};
    const int count = work.counts[e];
    work.products[e] = {expert.gate,       x,           work.gate + begin * layer.width,
                        expert.gate_alpha, layer.width, count,
                        layer.hidden};
    work.products[layer.count + e] = {expert.up,       x,           work.up + begin * layer.width,
                                      expert.up_alpha, layer.width, count,
                                      layer.hidden};
    work.products[2 * layer.count + e] = {
        expert.down, inner,      work.parts + begin * layer.hidden, expert.down_alpha, layer.hidden,
        count,       layer.width};
  }
}

/// Where the scale of block `block` of a slot goes, [.., cols].
__device__ int64_t scale_place(const Work& work, int expert, int slot, int block, int cols) {
  const int64_t row = int64_t{work.tile_begins[expert]} * 128 + slot - work.begins[expert];
  return fp4_scale_offset(row, block, cols / kFp4Block);
}

/// A thread has a block of 16 of the x of one slot.
__global__ void __launch_bounds__(kThreads) quantize_x_kernel(const Work work) {
  const Fp4Layer& layer = work.call.layer;
  const int blocks = layer.hidden / kFp4Block;
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= int64_t{work.pairs} * blocks) return;
  const int slot = static_cast<int>(i / blocks);
  const int b = static_cast<int>(i % blocks);
  const int pair = work.pair_of[slot];
  const int e = work.call.chosen[pair];
  const float* x = work.call.x + int64_t{pair / work.call.top_k} * layer.hidden + b * kFp4Block;
  float block[kFp4Block];
#pragma unroll
  for (int k = 0; k < kFp4Block; ++k) block[k] = x[k];
  work.x_scales[scale_place(work, e, slot, b, layer.hidden)] =
      quantize_block(block, layer.experts[e].x_scale, work.x_codes + i * (kFp4Block / 2));
}

/// The same of act(gate) * up.
__global__ void __launch_bounds__(kThreads) activate_kernel(const Work work) {
  const Fp4Layer& layer = work.call.layer;
  const int blocks = layer.width / kFp4Block;
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= int64_t{work.pairs} * blocks) return;
  const int slot = static_cast<int>(i / blocks);
  const int e = work.call.chosen[work.pair_of[slot]];
  float block[kFp4Block];
#pragma unroll
  for (int k = 0; k < kFp4Block; ++k) {
    const int64_t at = i * kFp4Block + k;
    block[k] = __fmul_rn(apply(layer.function, work.gate[at]), work.up[at]);
  }
  work.inner_scales[scale_place(work, e, slot, static_cast<int>(i % blocks), layer.width)] =
      quantize_block(block, layer.experts[e].inner_scale, work.inner_codes + i * (kFp4Block / 2));
}

__global__ void __launch_bounds__(kThreads) combine_kernel(const Work work) {
  const int hidden = work.call.layer.hidden;
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= int64_t{work.call.rows} * hidden) return;
  const int64_t row = i / hidden;
  float sum = 0.0F;
  for (int64_t pair = row * work.call.top_k; pair < (row + 1) * work.call.top_k; ++pair) {
    const float part = work.parts[int64_t{work.slot_of[pair]} * hidden + i % hidden];
    sum = __fmaf_rn(work.call.weights[pair], part, sum);
  }
  work.call.out[i] = sum;
}

void run_pass(cudaStream_t stream, const Work& work) {
  const Fp4Layer& layer = work.call.layer;
  const auto zero = [&](uint8_t* scales, int32_t cols) {
    const auto bytes = static_cast<size_t>(fp4_scale_bytes(work.tiles, cols));
    check(cudaMemsetAsync(scales, 0, bytes, stream), "fp4_experts");
  };
  const auto blocks = [&](int64_t items) { return grid(ceil_div(items, kThreads)); };
  zero(work.x_scales, layer.hidden);
  zero(work.inner_scales, layer.width);
  sort_kernel<<<1, kSortThreads, 0, stream>>>(work);
  check_launch("fp4_experts: sort");
  quantize_x_kernel<<<blocks(int64_t{work.pairs} * (layer.hidden / kFp4Block)), kThreads, 0,
                      stream>>>(work);
  check_launch("fp4_experts: quantize");
  fp4_products(stream, {work.products, 2 * layer.count, layer.width}, work.room);
  activate_kernel<<<blocks(int64_t{work.pairs} * (layer.width / kFp4Block)), kThreads, 0, stream>>>(
      work);
  check_launch("fp4_experts: activate");
  fp4_products(stream, {work.products + 2 * layer.count, layer.count, layer.hidden}, work.room);
  combine_kernel<<<blocks(int64_t{work.call.rows} * layer.hidden), kThreads, 0, stream>>>(work);
  check_launch("fp4_experts: combine");
}

}  // namespace

int64_t fp4_experts_workspace_bytes(const Fp4Layer& layer, int32_t rows, int32_t top_k) {
  Work work;
  work.call.layer = layer;
  work.call.rows = rows < kPassRows ? rows : kPassRows;
  work.call.top_k = top_k;
  return carve(work, nullptr);
}

void fp4_experts(cudaStream_t stream, const Fp4ExpertsCall& call) {
  for (int32_t first = 0; first < call.rows; first += kPassRows) {
    Work work;
    work.call = call;
    work.call.rows = call.rows - first < kPassRows ? call.rows - first : kPassRows;
    work.call.x += int64_t{first} * call.layer.hidden;
    work.call.out += int64_t{first} * call.layer.hidden;
    work.call.chosen += int64_t{first} * call.top_k;
    work.call.weights += int64_t{first} * call.top_k;
    carve(work, call.workspace);
    run_pass(stream, work);
  }
}

}  // namespace facet::cuda
