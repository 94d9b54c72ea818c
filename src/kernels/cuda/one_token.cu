// All decoder layers of one token in one launch: a CTA for each multiprocessor, all of them under
// way at once, which tell each other the results of a layer's parts (one_token_words.cuh).
//
//   stream settled, its norm | q, k, v
//   attention over a CTA's positions
//   join of all positions
//   o
//   stream settled, its norms | gate and up, the router's logits
//   gate and up of the chosen experts, dense down
//   down of the chosen experts
//
// Separate kernels lose more time at their ends and beginnings than to memory. Here every worker
// warp has a ring whose copies run ahead over all waits (one_token_ring.cuh): what a part reads is
// mostly there when its x is. Every CTA has a stream of its own and settles it for itself. A
// helper warp has the CTA's share of the router and chooses the experts, in each CTA, while the
// workers are still at gate and up.
//
//   scratch  of the part: x as BF16 in the format's order; attention's q and scores; the results of
//            experts

#include "kernels/cuda/activation.cuh"
#include "kernels/cuda/one_token_attention.cuh"
#include "kernels/cuda/one_token_feeder.cuh"
#include "kernels/cuda/one_token_helper.cuh"
#include "kernels/cuda/one_token_products.cuh"

namespace facet::cuda {
namespace {

/// What the workers do.
class TokenWorker {
 public:
  __device__ __forceinline__ TokenWorker(const OneTokenArgs& args, TokenShared& shared)
      : args_(args),
        shared_(shared),
        tables_(shared.tables),
        ring_(shared.rings, token_warp()),
        first_(first_number(args)) {}

  __device__ __forceinline__ void run() {
    const float root = router_root(kTokenHidden);
    for (int index = 0; index < args_.count; ++index) {
      const OneTokenLayer& layer = tables_.layers[index % 2];
      const OneTokenLayer* before = index > 0 ? &tables_.layers[(index + 1) % 2] : nullptr;
      const uint32_t number = first_ + index;
      // One after the other through the same instructions, which then are at hand.
#pragma unroll 1
      for (int i = static_cast<int>(TokenPart::kQkv); i < static_cast<int>(TokenPart::kExpertsDown);
           ++i) {
        const auto part = static_cast<TokenPart>(i);
        if (part == TokenPart::kCache || part == TokenPart::kExperts) continue;
        if (part == TokenPart::kQkv) {
          enter_layer(args_, before, layer, number, shared_.norm_parts, shared_.scratch);
          if (before != nullptr) arrive_all<kLayerDone>();
        } else if (part == TokenPart::kGateUp) {
          enter_feed_forward(args_, layer, number, root, shared_.norm_parts, shared_.scratch,
                             shared_.scratch + kExpertsX,
                             reinterpret_cast<float*>(shared_.scratch + kRouterZ));
          arrive_all<kZIsThere>();
        } else {
          const OneTokenKind& kind = args_.kinds[layer.kind];
          if (part == TokenPart::kDown) {  // meanwhile other CTAs tell what it reads
            bar_sync<kChosen, kWithHelper>();
            experts(layer, number);
          }
          stage(part == TokenPart::kO ? args_.rooms.attended : args_.rooms.inner,
                part == TokenPart::kO ? kind.q_heads * kind.head_dim : args_.dense_width, number);
        }
        sync_workers();
        multiply(layer, part, number);
        if (part == TokenPart::kQkv) attend(layer, number);
      }
      experts_down(layer, number);
    }
    if (blockIdx.x == 0) {
      const TokenElements at;
      TokenValues x;
      x.load(at, stream_of(args_));
      x.store(at, args_.x);
    }
  }

 private:
  /// Sums of a band's chunks: by its group, whose first 16 threads then have one row each.
  __device__ __forceinline__ float finish_band(const TokenPlace& place,
                                               const float (&sums)[4],
                                               int parity) {
    auto& mine = shared_.partial[parity][place.group];
    if (place.lane % 4 == 0) {
      mine[place.chunk][place.lane / 4] = sums[0];
      mine[place.chunk][place.lane / 4 + 8] = sums[2];
    }
    sync_group(place.group);
    return place.chunk == 0 && place.lane < 16 ? sum_chunks(mine, place.lane) : 0.0F;
  }

  /// The halves of a BF16 part.
  __device__ __forceinline__ void multiply(const OneTokenLayer& layer,
                                           TokenPart part,
                                           uint32_t number) {
    const TokenPlace place;
    const TokenDeal halves = tables_.deal(args_, layer, part, place.group);
    const int begin = token_chunk_begin(halves.steps, place.chunk);
    const int steps = token_chunk_begin(halves.steps, place.chunk + 1) - begin;
    const uint8_t* x_at = shared_.scratch + begin * kStepBytesX + place.lane % 4 * 16;
    const int unit = unit_of_lane(place.lane);
    int parity = 0;  // the same in both groups of a pair
#pragma unroll 1
    for (int half = halves.first; half < halves.end; half += halves.next) {
      float sums[4] = {};
      const uint8_t* x = x_at;
#pragma unroll 1
      for (int step = 0; step < steps; step += kStepsOfSlot) {
        add_slot(sums, ring_.wait() + unit, x, min(kStepsOfSlot, steps - step));
        ring_.release();
        x += kStepsOfSlot * kStepBytesX;
      }
      auto& partial = shared_.partial[parity];
      if (place.lane % 4 == 0) partial[place.group][place.chunk][row_of_lane(place.lane)] = sums[0];
      parity ^= 1;
      if (part == TokenPart::kGateUp) {
        sync_pair(place.group / 2);
        if (place.chunk != 0 || place.group % 2 != 0) continue;
        const float up = place.lane < 8 ? sum_chunks(partial[place.group + 1], place.lane) : 0.0F;
        const float gate = place.lane < 8 ? sum_chunks(partial[place.group], place.lane) : 0.0F;
        const float value = __fmul_rn(apply(args_.function, gate), up);
        const float next = __shfl_down_sync(kAllLanes, value, 1);
        if (place.lane < 8 && place.lane % 2 == 0)
          tell(args_.rooms.inner + half * 4 + place.lane / 2, pack_bf16(value, next), number);
      } else {
        sync_group(place.group);
        if (place.chunk != 0 || place.lane >= 8) continue;
        const float sum = sum_chunks(partial[place.group], place.lane);
        tell(out_of(layer, part, half * 8) + place.lane, sum, number);
        if (part == TokenPart::kDown) args_.dense[half * 8 + place.lane] = sum;
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
    for (int eight = thread_now(); first || eight < eights; eight += kWorkerThreads) {
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
    if (tables_.tasks[layer.kind].parts > 0)
      attend_part(args_, tables_, layer, shared_.rotation, number, shared_.rings, ring_,
                  shared_.scratch);
    join_token(args_, tables_, layer, number, shared_.scratch);
  }

  /// Gate and up of the experts.
  __device__ __forceinline__ void experts(const OneTokenLayer& layer, uint32_t number) {
    const TokenPlace place;
    const TokenDeal bands = tables_.deal(args_, layer, TokenPart::kExperts, place.group);
    const int of_expert = args_.expert_width / 8;
    const int begin = token_chunk_begin(bands.steps, place.chunk);
    const int steps = token_chunk_begin(bands.steps, place.chunk + 1) - begin;
    const uint8_t* x_at = shared_.scratch + kExpertsX + begin * kStepBytesX + place.lane % 4 * 16;
    int parity = 0;
#pragma unroll 1
    for (int at = bands.first; at < bands.end; at += bands.next) {
      float sums[4] = {};
#pragma unroll 1
      for (int step = 0; step < steps; step += kTilesOfSlot) {
        add_tiles(sums, ring_.wait(), x_at + step * kStepBytesX, min(kTilesOfSlot, steps - step));
        ring_.release();
      }
      const float gate = finish_band(place, sums, parity);
      parity ^= 1;
      if (place.chunk != 0) continue;
      const float up = __shfl_sync(kAllLanes, gate, place.lane % 8 + 8);
      const int choice = at / of_expert;
      const int f = at % of_expert * 8 + place.lane;
      const ExpertPointers& expert = tables_.choice.pointers[choice];
      const float g = __fmul_rn(gate, __fmul_rn(expert.gate_scale, kNvfp4Gain));
      const float u = __fmul_rn(up, __fmul_rn(expert.up_scale, kNvfp4Gain));
      const float value = __fmul_rn(apply(args_.function, g), u);
      // Neighbours in the format's order are four columns apart.
      const float other = __shfl_down_sync(kAllLanes, value, 4);
      if (place.lane < 4) {
        tell(args_.rooms.expert_inner + choice * args_.expert_width / 2 +
                 position_of<Nvfp4Steps>(f) / 2,
             pack_bf16(value, other), number);
      }
    }
  }

  /// A chosen expert's row of expert_inner.
  __device__ __forceinline__ int inner_bytes() const {
    return args_.expert_width / kStep * kStepBytesX;
  }

  /// A CTA has bands of 16 rows of all chosen experts, a warp an expert; half of the warps every
  /// other band.
  __device__ __forceinline__ void experts_down(const OneTokenLayer& layer, uint32_t number) {
    const TokenPlace place;
    const int steps = args_.expert_width / kStep;
    const int expert = place.warp % kTokenExperts;
    const int turn = place.warp / kTokenExperts;
    const bool chosen = expert < args_.top_k;
    uint8_t* x = shared_.scratch + expert * inner_bytes();
    // The warps of an expert share its x.
    constexpr int kPairs = kTokenWidthSteps * kStep / 2 / kWarp / kBandsAtOnce;
    uint32_t pairs[kPairs] = {};
    const int count = args_.expert_width / 2;
    const int first = turn * kPairs * kWarp + place.lane;
    if (chosen) {
      const uint2* from = args_.rooms.expert_inner + expert * count;
      hear<kPairs>(
          number, [&](int i) { return from + min(first + i * kWarp, count - 1); },
          [&](int i, uint32_t value) { pairs[i] = value; });
    }
    sync_workers();  // nobody reads there any more
    if (chosen) {
#pragma unroll
      for (int i = 0; i < kPairs; ++i) {
        if (first + i * kWarp < count) reinterpret_cast<uint32_t*>(x)[first + i * kWarp] = pairs[i];
      }
    }
    sync_workers();
    auto* all = reinterpret_cast<float*>(shared_.scratch + kTokenExperts * inner_bytes());
    float* results = all + turn * kTokenExperts * 16;
    const float factor =
        chosen ? __fmul_rn(tables_.choice.pointers[expert].down_scale, kNvfp4Gain) : 0.0F;
    const TokenDeal bands = tables_.deal(args_, layer, TokenPart::kExpertsDown, 0);
#pragma unroll 1
    for (int base = bands.first; base < bands.end; base += kBandsAtOnce * bands.next) {
      const int band = base + turn * bands.next;
      if (chosen && band < bands.end) {
        float sums[4] = {};
#pragma unroll 1
        for (int step = 0; step < steps; step += kTilesOfSlot) {
          add_tiles(sums, ring_.wait(), x + step * kStepBytesX + place.lane % 4 * 16,
                    min(kTilesOfSlot, steps - step));
          ring_.release();
        }
        if (place.lane % 4 == 0) {
          float* to = results + expert * 16 + place.lane / 4;
          to[0] = __fmul_rn(__fadd_rn(0.0F, sums[0]), factor);
          to[8] = __fmul_rn(__fadd_rn(0.0F, sums[2]), factor);
        }
      }
      sync_workers();
      if (expert == 0 && place.lane < 16 && band < bands.end) {
        float sum = 0.0F;
        for (int j = 0; j < args_.top_k; ++j)
          sum = __fmaf_rn(tables_.choice.weights[j], results[j * 16 + place.lane], sum);
        tell(args_.rooms.sparse + band * 16 + place.lane, sum, number);
        args_.sparse[band * 16 + place.lane] = sum;
      }
      sync_workers();
    }
  }

  const OneTokenArgs& args_;
  TokenShared& shared_;
  const TokenTables& tables_;
  TokenRing ring_;
  const uint32_t first_;
};

__global__ void __launch_bounds__(kTokenThreads, 1)
    one_token_kernel(const __grid_constant__ OneTokenArgs args) {
  extern __shared__ __align__(1024) uint8_t memory[];
  auto& shared = *reinterpret_cast<TokenShared*>(memory);
  TokenTables& tables = shared.tables;
  constexpr int kWords = sizeof(OneTokenLayer) / 16;
  for (int i = static_cast<int>(threadIdx.x); i < min(args.count, 2) * kWords; i += kTokenThreads)
    reinterpret_cast<uint4*>(tables.layers)[i] = reinterpret_cast<const uint4*>(args.layers)[i];
  shared.rings.init(static_cast<int>(threadIdx.x));
  if (threadIdx.x == 0) tables.chosen = 0;
  if (threadIdx.x < OneTokenArgs::kKinds && args.kinds[threadIdx.x].head_dim > 0)
    find_task(args, static_cast<int>(threadIdx.x), tables.tasks[threadIdx.x]);
  constexpr int kDeals = OneTokenArgs::kKinds * kTokenParts * kTokenGroups;
  static_assert(kDeals <= kTokenThreads);
  if (threadIdx.x < kDeals) {
    const int group = static_cast<int>(threadIdx.x) % kTokenGroups;
    const int part = static_cast<int>(threadIdx.x) / kTokenGroups % kTokenParts;
    const int kind = static_cast<int>(threadIdx.x) / kTokenGroups / kTokenParts;
    tables.deals[kind][part][group] =
        deal_part(args, args.kinds[kind], static_cast<TokenPart>(part), group);
  }
  __syncthreads();
#pragma unroll 1
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

static_assert(sizeof(TokenShared) <= 227 * 1024);
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
