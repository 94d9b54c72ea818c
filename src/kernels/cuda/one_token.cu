// All decoder layers of one token in one launch: a CTA for each multiprocessor, all of them under
// way at once, which tell each other the results of a layer's parts (one_token_words.cuh).
//
//   stream settled, its norm | q, k, v
//   attention over a CTA's positions
//   join of all positions
//   o
//   stream settled, its norms | gate and up, the router's logits
//   dense down, gate and up of the chosen experts
//   down of the chosen experts
//
// Separate kernels lose more time at their ends and beginnings than to memory. Here every worker
// warp has a ring whose copies run ahead over all waits (one_token_ring.cuh): what a part reads is
// mostly there when its x is. Every CTA keeps the stream in registers and settles it for itself. A
// helper warp has the CTA's share of the router and chooses the experts, in each CTA, while the
// workers are still at gate and up.
//
//   scratch  of the part: x as BF16 in the format's order; attention's q and scores; the results of
//            experts

#include "kernels/cuda/activation.cuh"
#include "kernels/cuda/one_token_attention.cuh"
#include "kernels/cuda/one_token_feeder.cuh"
#include "kernels/cuda/one_token_helper.cuh"

namespace facet::cuda {
namespace {

/// What the workers do.
class TokenWorker {
 public:
  __device__ __forceinline__ TokenWorker(const OneTokenArgs& args, TokenShared& shared)
      : args_(args),
        shared_(shared),
        tables_(shared.tables),
        warp_(token_warp()),
        lane_(static_cast<int>(threadIdx.x) % kWarp),
        chunk_(warp_ % kChunks),
        place_(TokenSlot::of_group(warp_ / kChunks)),
        ring_(shared.rings, warp_),
        first_(first_number(args)) {}

  __device__ __forceinline__ void run() {
    const float root = router_root(kTokenHidden);
    for (int index = 0; index < args_.count; ++index) {
      const OneTokenLayer& layer = tables_.layers[index % 2];
      const OneTokenLayer* before = index > 0 ? &tables_.layers[(index + 1) % 2] : nullptr;
      const uint32_t number = first_ + index;
      // One after the other through the same instructions, which then are at hand.
#pragma unroll 1
      for (const TokenPart part :
           {TokenPart::kQkv, TokenPart::kO, TokenPart::kGateUp, TokenPart::kDown}) {
        if (part == TokenPart::kQkv) {
          enter_layer(args_, before, layer, number, x_, shared_.norm_parts, shared_.scratch);
          if (before != nullptr) arrive_all<kLayerDone>();
        } else if (part == TokenPart::kGateUp) {
          enter_feed_forward(args_, layer, number, root, x_, shared_.norm_parts, shared_.scratch,
                             shared_.scratch + kExpertsX,
                             reinterpret_cast<float*>(shared_.scratch + kRouterZ));
          arrive_all<kZIsThere>();
        } else {
          const OneTokenKind& kind = args_.kinds[layer.kind];
          stage(part == TokenPart::kO ? args_.rooms.attended : args_.rooms.inner,
                part == TokenPart::kO ? kind.q_heads * kind.head_dim : args_.dense_width, number);
        }
        if (part == TokenPart::kDown) {
          bar_sync<kChosen, kWithHelper>();
        } else {
          sync_workers();
        }
        multiply(layer, part, number);
        if (part == TokenPart::kDown) experts(number);
        if (part == TokenPart::kQkv) attend(layer, number);
      }
      experts_down(number);
    }
    if (blockIdx.x == 0) {
#pragma unroll
      for (int k = 0; k < kTokenPer; ++k) args_.x[threadIdx.x + k * kWorkerThreads] = x_.v[k];
    }
  }

 private:
  __device__ __forceinline__ void sync_group() const {
    if (warp_ < kChunks) {
      bar_sync<2, kChunks * kWarp>();
    } else {
      bar_sync<3, kChunks * kWarp>();
    }
  }

  /// Sums of a band's chunks: by its group, whose first 16 threads then have one row each.
  __device__ __forceinline__ float finish_band(const float (&sums)[4], int row_of_sums) {
    auto& mine = shared_.partial[parity_][warp_ / kChunks];
    if (lane_ % 4 == 0) {
      mine[chunk_][row_of_sums] = sums[0];
      mine[chunk_][row_of_sums + 8] = sums[2];
    }
    sync_group();
    float sum = 0.0F;
    if (chunk_ == 0 && lane_ < 16) {
#pragma unroll
      for (int c = 0; c < kChunks; ++c) sum = __fadd_rn(sum, mine[c][lane_]);
    }
    parity_ ^= 1;
    return sum;
  }

  /// The bands of a BF16 part.
  __device__ __forceinline__ void multiply(const OneTokenLayer& layer,
                                           TokenPart part,
                                           uint32_t number) {
    const TokenBands bands = bands_of_part(args_, layer, part, place_.slots);
    const int begin = chunk_begin(bands.steps, chunk_);
    const int steps = chunk_begin(bands.steps, chunk_ + 1) - begin;
    const uint8_t* x_at = shared_.scratch + begin * kStepBytesX + lane_ % 4 * 16;
    const int unit = unit_of_lane(lane_);
#pragma unroll 1
    for (int band = bands.begin(place_.slot, place_.slots); band < bands.bands;
         band += bands.among) {
      float sums[4] = {};
      const uint8_t* x = x_at;
      SlotFragments now;
      SlotFragments next;
      const auto add = [&](const SlotFragments& of, int step) {
#pragma unroll
        for (int s = 0; s < kStepsOfSlot; ++s) {
          if (s > 0 && step + s >= steps) break;
#pragma unroll
          for (int p = 0; p < 2; ++p)
            add_products(sums, of.of[s][p], load_shared(x + s * kStepBytesX + p * 64));
        }
        x += kStepsOfSlot * kStepBytesX;
        ring_.release();
      };
      now.load(ring_.wait(), unit);
#pragma unroll 1
      for (int step = 0; step < steps; step += 2 * kStepsOfSlot) {
        if (step + kStepsOfSlot < steps) next.load(ring_.wait(1), unit);
        add(now, step);
        if (step + kStepsOfSlot >= steps) break;
        if (step + 2 * kStepsOfSlot < steps) now.load(ring_.wait(1), unit);
        add(next, step + kStepsOfSlot);
      }
      const float sum = finish_band(sums, row_of_lane(lane_));
      if (chunk_ != 0) continue;
      const float up = __shfl_sync(kAllLanes, sum, lane_ % 8 + 8);
      if (part == TokenPart::kGateUp) {
        const float value = __fmul_rn(apply(args_.function, sum), up);
        const float next = __shfl_down_sync(kAllLanes, value, 1);
        if (lane_ < 8 && lane_ % 2 == 0)
          tell(args_.rooms.inner + band * 4 + lane_ / 2, pack_bf16(value, next), number);
      } else if (lane_ < 16) {
        tell(out_of(layer, part, band * 16) + lane_, sum, number);
        if (part == TokenPart::kDown) args_.dense[band * 16 + lane_] = sum;
      }
    }
  }
  /// Where the result of a part's row goes.
  __device__ __forceinline__ uint2* out_of(const OneTokenLayer& layer,
                                           TokenPart part,
                                           int row) const {
    if (part == TokenPart::kO) return args_.rooms.branch + row;
    if (part == TokenPart::kDown) return args_.rooms.dense + row;
    const OneTokenKind& kind = args_.kinds[layer.kind];
    const int q_rows = kind.q_heads * kind.head_dim;
    const int kv_rows = kind.kv_heads * kind.head_dim;
    if (row < q_rows) return args_.rooms.q + row;
    if (row < q_rows + kv_rows) return args_.rooms.k + (row - q_rows);
    return args_.rooms.v + (row - q_rows - kv_rows);
  }

  /// scratch = a row of BF16 that other CTAs tell; nobody reads there any more.
  __device__ __forceinline__ void stage(const uint2* from, int cols, uint32_t number) {
    constexpr int kPairs = 4;  // of BF16 in 16 bytes
    const int eights = cols / 8;
    bool first = true;
#pragma unroll 1
    for (int eight = static_cast<int>(threadIdx.x); first || eight < eights;
         eight += kWorkerThreads) {
      uint32_t packed[kPairs] = {};
      if (eight < eights) {
        hear<kPairs>(
            number, [&](int i) { return from + eight * kPairs + i; },
            [&](int i, uint32_t value) { packed[i] = value; });
      }
      if (first) sync_workers();
      first = false;
      if (eight < eights) {
        *reinterpret_cast<uint4*>(shared_.scratch + eight * 16) = {packed[0], packed[1], packed[2],
                                                                   packed[3]};
      }
    }
  }

  /// Attention, with its join.
  __device__ __forceinline__ void attend(const OneTokenLayer& layer, uint32_t number) {
    if (tables_.tasks[layer.kind].parts > 0) {
      if (args_.kinds[layer.kind].head_dim == 256) {
        attend_part<256>(args_, tables_, layer, shared_.rotation, number, ring_, shared_.scratch);
      } else {
        attend_part<512>(args_, tables_, layer, shared_.rotation, number, ring_, shared_.scratch);
      }
    }
    join_token(args_, tables_, layer, number);
  }

  /// Gate and up of the experts.
  __device__ __forceinline__ void experts(uint32_t number) {
    const TokenBands bands =
        bands_of_part(args_, tables_.layers[0], TokenPart::kExperts, place_.slots);
    const int of_expert = args_.expert_width / 8;
    const int begin = chunk_begin(bands.steps, chunk_);
    const int steps = chunk_begin(bands.steps, chunk_ + 1) - begin;
    const uint8_t* x_at = shared_.scratch + kExpertsX + begin * kStepBytesX + lane_ % 4 * 16;
#pragma unroll 1
    for (int at = bands.begin(place_.slot, place_.slots); at < bands.bands; at += bands.among) {
      float sums[4] = {};
#pragma unroll 1
      for (int step = 0; step < steps; step += kTilesOfSlot) {
        add_tiles(sums, ring_.wait(), x_at + step * kStepBytesX, min(kTilesOfSlot, steps - step));
        ring_.release();
      }
      const float gate = finish_band(sums, lane_ / 4);
      if (chunk_ != 0) continue;
      const float up = __shfl_sync(kAllLanes, gate, lane_ % 8 + 8);
      const int choice = at / of_expert;
      const int f = at % of_expert * 8 + lane_;
      const ExpertPointers& expert = tables_.choice.pointers[choice];
      const float g = __fmul_rn(gate, __fmul_rn(expert.gate_scale, kNvfp4Gain));
      const float u = __fmul_rn(up, __fmul_rn(expert.up_scale, kNvfp4Gain));
      const float value = __fmul_rn(apply(args_.function, g), u);
      // Neighbours in the format's order are four columns apart.
      const float other = __shfl_down_sync(kAllLanes, value, 4);
      if (lane_ < 4) {
        tell(args_.rooms.expert_inner + choice * args_.expert_width / 2 +
                 position_of<Nvfp4Steps>(f) / 2,
             pack_bf16(value, other), number);
      }
    }
  }

  __device__ __forceinline__ void add_tiles(float (&sums)[4],
                                            const uint8_t* tiles,
                                            const uint8_t* x,
                                            int count) const {
#pragma unroll 1
    for (; count >= 2; count -= 2, tiles += 2 * kTileBytes, x += 2 * kStepBytesX) {
#pragma unroll
      for (int i = 0; i < 2; ++i)
        add_step<Nvfp4Steps>(sums, tiles + i * kTileBytes, x + i * kStepBytesX, lane_);
    }
    if (count > 0) add_step<Nvfp4Steps>(sums, tiles, x, lane_);
  }

  /// A chosen expert's row of expert_inner.
  __device__ __forceinline__ int inner_bytes() const {
    return args_.expert_width / kStep * kStepBytesX;
  }

  /// A CTA has bands of 16 rows of all chosen experts, a warp an expert.
  __device__ __forceinline__ void experts_down(uint32_t number) {
    const int steps = args_.expert_width / kStep;
    const bool works = warp_ < args_.top_k;
    uint8_t* x = shared_.scratch + warp_ * inner_bytes();
    constexpr int kPairs = kTokenWidthSteps * kStep / 2 / kWarp;
    uint32_t pairs[kPairs];
    const int count = args_.expert_width / 2;
    if (works) {
      const uint2* from = args_.rooms.expert_inner + warp_ * count;
      hear<kPairs>(
          number, [&](int i) { return from + min(lane_ + i * kWarp, count - 1); },
          [&](int i, uint32_t value) { pairs[i] = value; });
    }
    sync_workers();  // nobody reads there any more
    if (works) {
#pragma unroll
      for (int i = 0; i < kPairs; ++i) {
        if (lane_ + i * kWarp < count) reinterpret_cast<uint32_t*>(x)[lane_ + i * kWarp] = pairs[i];
      }
      __syncwarp();
    }
    auto* results = reinterpret_cast<float*>(shared_.scratch + kTokenWorkers * inner_bytes());
    const float factor =
        works ? __fmul_rn(tables_.choice.pointers[warp_].down_scale, kNvfp4Gain) : 0.0F;
    const int grid = static_cast<int>(gridDim.x);
    const TokenBands bands = bands_of_part(args_, tables_.layers[0], TokenPart::kExpertsDown, grid);
    for (int band = bands.begin(static_cast<int>(blockIdx.x), grid); band < bands.bands;
         band += grid) {
      if (works) {
        float sums[4] = {};
        for (int step = 0; step < steps; step += kTilesOfSlot) {
          add_tiles(sums, ring_.wait(), x + step * kStepBytesX + lane_ % 4 * 16,
                    min(kTilesOfSlot, steps - step));
          ring_.release();
        }
        if (lane_ % 4 == 0) {
          float* to = results + warp_ * 16 + lane_ / 4;
          to[0] = __fmul_rn(__fadd_rn(0.0F, sums[0]), factor);
          to[8] = __fmul_rn(__fadd_rn(0.0F, sums[2]), factor);
        }
      }
      sync_workers();
      if (threadIdx.x < 16) {
        float sum = 0.0F;
        for (int j = 0; j < args_.top_k; ++j)
          sum = __fmaf_rn(tables_.choice.weights[j], results[j * 16 + threadIdx.x], sum);
        tell(args_.rooms.sparse + band * 16 + threadIdx.x, sum, number);
        args_.sparse[band * 16 + threadIdx.x] = sum;
      }
      sync_workers();
    }
  }

  const OneTokenArgs& args_;
  TokenShared& shared_;
  const TokenTables& tables_;
  const int warp_;
  const int lane_;
  const int chunk_;
  const TokenSlot place_;
  TokenRing ring_;
  const uint32_t first_;
  TokenValues x_;
  int parity_ = 0;
};

__global__ void __launch_bounds__(kTokenThreads, 1)
    one_token_kernel(const __grid_constant__ OneTokenArgs args) {
  extern __shared__ __align__(128) uint8_t memory[];
  auto& shared = *reinterpret_cast<TokenShared*>(memory);
  TokenTables& tables = shared.tables;
  constexpr int kWords = sizeof(OneTokenLayer) / 16;
  for (int i = static_cast<int>(threadIdx.x); i < min(args.count, 2) * kWords; i += kTokenThreads)
    reinterpret_cast<uint4*>(tables.layers)[i] = reinterpret_cast<const uint4*>(args.layers)[i];
  shared.rings.init(static_cast<int>(threadIdx.x));
  if (threadIdx.x == 0) tables.chosen = 0;
  if (threadIdx.x < OneTokenArgs::kKinds && args.kinds[threadIdx.x].head_dim > 0)
    find_task(args, static_cast<int>(threadIdx.x), tables.tasks[threadIdx.x]);
  __syncthreads();
  for (int kind = 0; kind < OneTokenArgs::kKinds; ++kind) {
    if (args.kinds[kind].head_dim == 0) continue;
    find_kv_rows(args, kind, tables.tasks[kind], tables.kv_rows);
    find_rotation(args, kind, shared.rotation);
  }
  __syncthreads();
  const int warp = token_warp();
  if (warp == kHelper) return help(args, shared);
  if (warp >= kFirstFeeder)
    return TokenFeeder(args, tables, shared.rings, warp - kFirstFeeder).run();
  TokenWorker(args, shared).run();
  sync_workers();
  if (threadIdx.x == 0) ++args.steps[blockIdx.x];
}

}  // namespace

int one_token_shared_bytes() { return sizeof(TokenShared); }

void launch_one_token(cudaStream_t stream, const OneTokenArgs& args) {
  const LaunchShape shape = {.grid = dim3(grid(multiprocessors())),
                             .threads = kTokenThreads,
                             .shared_bytes = sizeof(TokenShared),
                             .together = true,
                             .traffic = {args.bytes, args.expert_bytes}};
  launch(stream, Overlap::kNo, shape, "all layers of one token", one_token_kernel, args);
}

}  // namespace facet::cuda
