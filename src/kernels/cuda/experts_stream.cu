// Experts of up to 8 rows and 64 pairs: bound by the bytes of the chosen experts, read once each.
//
// gate_up: the bands (8 rows of gate and 8 of up each) of all chosen experts are dealt to CTAs,
// which have two under way, four warps a band, a chunk of K each, rings as in linear_stream.cu. A
// band meets the tokens that chose its expert; all x stand in shared memory. The first CTAs may
// have a product of their own, whose weights they ask for while the router still chooses. down: a
// CTA has `groups` bands of 16 rows for all experts; eight warps of a group share the chosen
// experts out, stream their rows of the band one after another, and the results meet in shared
// memory, where each row's are added in the order of its choices. Its first weights are asked for
// while gate_up still runs.

#include <algorithm>

#include "kernels/cuda/experts_bands.cuh"
#include "kernels/cuda/linear_stream.cuh"

namespace facet::cuda {
namespace {

constexpr int kTokens = kStreamExpertRows;
constexpr int kPartial = kTokens * 16;
constexpr int kBandThreads = kChunks * kWarp;
constexpr int kBands = 2;  // of gate_up
constexpr int kDownWarps = 8;

constexpr int kTableExperts = 128;  // whose pointers find room in shared memory

constexpr int kBesideStages = 3;
constexpr int kBesideFixed =
    kStreamRing<Bf16Steps, kBands, kBesideStages> + kStreamPartial<kBands, 1>;

template <class F>
constexpr int kStages = 4;
template <>
constexpr int kStages<Nvfp4Steps> = 10;

// What experts_stream_fits() reckons with.
template <class F>
constexpr int kGateUpFixed = kBands* kChunks* kStages<F>* F::kBandBytes +
                             2 * kBands* kChunks* kPartial* static_cast<int>(sizeof(float));
template <class F>
constexpr int kDownFixed = kDownWarps* kStages<F>* F::kBandBytes;
template <class F>
constexpr bool reckoned(WeightFormat format) {
  return kGateUpFixed<F> == expert_gate_up_fixed_bytes(format) &&
         kDownFixed<F> == expert_down_fixed_bytes(format);
}
static_assert(reckoned<Bf16Steps>(WeightFormat::kBF16) &&
              reckoned<Nvfp4Steps>(WeightFormat::kNvfp4));

/// The pairs that chose one expert.
struct Group {
  int expert;
  int count;
  int pairs[kTokens];
};

/// Groups of the pairs in order of first choice; returns through shared memory: `chosen` [pairs],
/// `firsts` [2], a bit for each pair that is its expert's first.
__device__ __forceinline__ void find_groups(
    const ExpertsWork& work, int* chosen, unsigned* firsts, Group* groups, int* group_count) {
  static_assert(kStreamPairs == 2 * kWarp);
  const int pairs = work.rows * work.top_k;
  const int p = threadIdx.x;
  if (p < kStreamPairs) chosen[p] = p < pairs ? work.chosen[p] : -1;
  __syncthreads();
  bool first = p < pairs;
  if (p < kStreamPairs) {
    for (int q = 0; q < p; ++q) first = first && chosen[q] != chosen[p];
    const unsigned votes = __ballot_sync(kAllLanes, first);
    if (p % kWarp == 0) firsts[p / kWarp] = votes;
  }
  __syncthreads();
  if (p < kStreamPairs && first) {
    const unsigned before = (1u << (p % kWarp)) - 1;
    Group& group =
        groups[__popc(firsts[p / kWarp] & before) + (p >= kWarp ? __popc(firsts[0]) : 0)];
    group.expert = chosen[p];
    int count = 0;
    for (int q = p; q < pairs; ++q) {
      if (chosen[q] == chosen[p] && count < kTokens) group.pairs[count++] = q;
    }
    group.count = count;
  }
  if (p == 0) *group_count = __popc(firsts[0]) + __popc(firsts[1]);
  __syncthreads();
}

/// Any grid: the bands of all chosen experts are dealt to the CTAs' slots in turn; the first
/// `beside_blocks` are those of `beside`.
template <class F>
__global__ void __launch_bounds__(kBands* kBandThreads)
    gate_up_kernel(const ExpertsWork work,
                   const __grid_constant__ StreamWork beside,
                   int beside_blocks) {
  extern __shared__ __align__(128) uint8_t shared[];
  __shared__ Group groups[kStreamPairs];
  __shared__ int chosen[kStreamPairs];
  __shared__ unsigned firsts[2];
  __shared__ int group_count;
  if (static_cast<int>(blockIdx.x) < beside_blocks) {
    return stream_bands<Bf16Steps, 1, kBands, kBesideStages>(
        beside, beside.all_bands, blockIdx.x, beside_blocks, shared, [&](uint8_t* x) {
          wait_for_previous();
          let_next_begin();  // not before: the next kernel reads the routing without waiting
          stage_plain<Bf16Steps>(beside, x);
        });
  }
  const int block = blockIdx.x - beside_blocks;
  const int blocks = gridDim.x - beside_blocks;
  const int warp = threadIdx.x / kWarp;
  const int lane = threadIdx.x % kWarp;
  const int chunk = warp % kChunks;
  const int slot = warp / kChunks;
  const int steps = work.hidden_steps;
  const int chunks = chunks_of(steps);
  const int begin = chunk < chunks ? chunk_begin(steps, chunk) : 0;
  const int end = chunk < chunks ? chunk_begin(steps, chunk + 1) : 0;
  const int bands = work.width_steps * 8;  // zeros beyond the width
  const uint8_t* ring = shared + warp * kStages<F> * F::kBandBytes;
  const uint32_t ring_at = shared_address(ring);
  auto* partial = reinterpret_cast<float*>(shared + kBands * kChunks * kStages<F> * F::kBandBytes);
  uint8_t* x = reinterpret_cast<uint8_t*>(partial + 2 * kBands * kChunks * kPartial);
  const uint64_t policy = evict_first();

  __shared__ ExpertPointers table[kTableExperts];
  const ExpertPointers* experts = work.layer.experts;
  if (work.layer.count <= kTableExperts) {
    for (int e = threadIdx.x; e < work.layer.count; e += blockDim.x) table[e] = experts[e];
    experts = table;
  }
  wait_for_previous();
  let_next_begin();
  find_groups(work, chosen, firsts, groups, &group_count);
  const int items = group_count * bands;
  const int stride = blocks * kBands;
  const int first = slot * blocks + block;  // so that SMs differ by a band, not by a CTA

  int next_item = first;
  int next_step = begin;
  int next_stage = 0;
  BandSource next_bands = {};
  LaneUnits<F> units;
  const auto issue = [&] {
    if (next_item < items && begin < end) {
      if (next_step == begin) {
        next_bands = gate_up_bands<F>(work, experts[groups[next_item / bands].expert]);
        units.seek(next_bands, next_item % bands, lane);
      }
      units.copy(ring_at + next_stage * F::kBandBytes, next_bands.lower, next_step, lane, policy);
      if (++next_stage == kStages<F>) next_stage = 0;
      if (++next_step == end) {
        next_step = begin;
        next_item += stride;
      }
    }
    copy_commit();
  };
#pragma unroll 1
  for (int i = 0; i < kStages<F>; ++i) issue();
  if (block < items) {
    stage_x<F>(x, pitch_of(steps), work.rows, steps, work.layer.hidden,
               [&](int token) { return work.x + int64_t{token} * work.layer.hidden; });
  }
  __syncthreads();

  int stage = 0;
  int parity = 0;
  for (int item = first; item < items; item += stride, parity ^= 1) {
    const Group& group = groups[item / bands];
    const int band = item % bands;
    const uint8_t* x_at =
        x + group.pairs[min(lane / 4, group.count - 1)] / work.top_k * pitch_of(steps) +
        lane % 4 * 16;
    float sums[4] = {};
    for (int step = begin; step < end; ++step) {
      copy_wait<kStages<F> - 1>();
      __syncwarp();
      add_step<F>(sums, ring + stage * F::kBandBytes, x_at + step * kStepBytesX, lane);
      if (++stage == kStages<F>) stage = 0;
      __syncwarp();
      issue();
    }
    float* mine = partial + (parity * kBands + slot) * kChunks * kPartial;
    if (chunk < chunks) {
      float* to = mine + chunk * kPartial + lane % 4 * 2 * 16 + lane / 4;
      to[0] = sums[0], to[16] = sums[1], to[8] = sums[2], to[24] = sums[3];
    }
    if (slot == 0) {
      bar_sync<1, kBandThreads>();
    } else {
      bar_sync<2, kBandThreads>();
    }
    const int element = threadIdx.x % kBandThreads;  // token * 8 + row, gate and up at once
    const int token = element / 8;
    if (token < group.count) {
      const float* from = mine + token * 16 + element % 8;
      float gate = 0.0F;
      float up = 0.0F;
      for (int c = 0; c < chunks; ++c) {
        gate = __fadd_rn(gate, from[c * kPartial]);
        up = __fadd_rn(up, from[c * kPartial + 8]);
      }
      store_inner<F>(work, group.pairs[token], band * 8 + element % 8,
                     activated<F>(work, experts[group.expert], gate, up));
    }
  }
}

/// Grid: [ceil(bands / groups)]. shared: rings, results [groups][pairs][16], inner of all pairs.
template <class F>
__global__ void __launch_bounds__(2 * kDownWarps * kWarp)
    down_kernel(const ExpertsWork work, int groups) {
  extern __shared__ __align__(128) uint8_t shared[];
  __shared__ Group chosen_groups[kStreamPairs];
  __shared__ int chosen[kStreamPairs];
  __shared__ unsigned firsts[2];
  __shared__ int group_count;
  const int warp = threadIdx.x / kWarp;
  const int lane = threadIdx.x % kWarp;
  const int worker = warp % kDownWarps;
  const int slot = warp / kDownWarps;
  const int pairs = work.rows * work.top_k;
  const int band = blockIdx.x * groups + slot;
  const int bands = (work.layer.hidden + 15) / 16;
  const int steps = work.width_steps;
  const uint8_t* ring = shared + warp * kStages<F> * F::kBandBytes;
  const uint32_t ring_at = shared_address(ring);
  auto* results =
      reinterpret_cast<float*>(shared + groups * kDownWarps * kStages<F> * F::kBandBytes);
  uint8_t* inner = reinterpret_cast<uint8_t*>(results + groups * pairs * 16);
  const uint64_t policy = evict_first();

  // The routing is older than the kernel before this one, which waited for it.
  find_groups(work, chosen, firsts, chosen_groups, &group_count);
  const int count = band < bands ? group_count : 0;
  int next_group = worker;
  int next_step = 0;
  int next_stage = 0;
  BandSource next_bands = {};
  LaneUnits<F> units;
  const auto issue = [&] {
    if (next_group < count) {
      if (next_step == 0) {
        next_bands = down_bands<F>(work, work.layer.experts[chosen_groups[next_group].expert]);
        units.seek(next_bands, band, lane);
      }
      units.copy(ring_at + next_stage * F::kBandBytes, next_bands.lower, next_step, lane, policy);
      if (++next_stage == kStages<F>) next_stage = 0;
      if (++next_step == steps) {
        next_step = 0;
        next_group += kDownWarps;
      }
    }
    copy_commit();
  };
#pragma unroll 1
  for (int i = 0; i < kStages<F>; ++i) issue();

  let_next_begin();
  wait_for_previous();
  for (int i = threadIdx.x; i < pairs * steps * 8; i += blockDim.x) {
    const int pair = i / (steps * 8);
    const int unit = i % (steps * 8);
    *reinterpret_cast<uint4*>(inner + pair * pitch_of(steps) + unit * 16) =
        reinterpret_cast<const uint4*>(work.inner + int64_t{pair} * steps * kStepBytesX)[unit];
  }
  __syncthreads();

  int stage = 0;
  for (int g = worker; g < count; g += kDownWarps) {
    const Group& group = chosen_groups[g];
    const float factor = __fmul_rn(work.layer.experts[group.expert].down_scale, kGainOf<F>);
    const uint8_t* x_at =
        inner + group.pairs[min(lane / 4, group.count - 1)] * pitch_of(steps) + lane % 4 * 16;
    float total[4] = {};
    float sums[4] = {};
    int chunk = 1;
    int border = chunk_begin(steps, chunk);
    for (int step = 0; step < steps; ++step) {
      copy_wait<kStages<F> - 1>();
      __syncwarp();
      add_step<F>(sums, ring + stage * F::kBandBytes, x_at + step * kStepBytesX, lane);
      if (++stage == kStages<F>) stage = 0;
      __syncwarp();
      issue();
      if (step + 1 == border) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          total[i] = __fadd_rn(total[i], sums[i]);
          sums[i] = 0.0F;
        }
        border = chunk_begin(steps, ++chunk);
      }
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int token = lane % 4 * 2 + i % 2;
      if (token < group.count) {
        results[(slot * pairs + group.pairs[token]) * 16 + lane / 4 + i / 2 * 8] =
            __fmul_rn(total[i], factor);
      }
    }
  }
  __syncthreads();
  for (int i = threadIdx.x; i < groups * work.rows * 16; i += blockDim.x) {
    const int row = (blockIdx.x * groups + i / (work.rows * 16)) * 16 + i % 16;
    const int t = i / 16 % work.rows;
    if (row >= work.layer.hidden) continue;
    const float* from = results + (i / (work.rows * 16) * pairs + t * work.top_k) * 16 + i % 16;
    float sum = 0.0F;
    for (int j = 0; j < work.top_k; ++j)
      sum = __fmaf_rn(work.weights[t * work.top_k + j], from[j * 16], sum);
    work.out[int64_t{t} * work.layer.hidden + row] = sum;
  }
}

}  // namespace

bool fits_beside(const StreamWork& beside) {
  return kBesideFixed + beside.tokens * int64_t{pitch_of(beside.steps())} + kExpertsStreamStatic <=
         most_shared_bytes();
}

template <class F>
void experts_stream(cudaStream_t stream,
                    Overlap overlap,
                    const ExpertsWork& work,
                    const std::optional<StreamWork>& beside) {
  const int pairs = work.rows * work.top_k;
  const int gate_up_bytes = kGateUpFixed<F> + work.rows * pitch_of(work.hidden_steps);
  const int most_shared = std::min(226 * 1024, most_shared_bytes());
  // One token: fewer CTAs with more bands each, all there at once, beside those of `beside`.
  const int fitting = std::max(1, most_shared / (gate_up_bytes + 6 * 1024));
  const int64_t resident = 132 * (work.rows == 1 ? std::min(fitting, 2) : fitting);
  const int64_t wanted = ceil_div(int64_t{pairs} * work.width_steps * 8, kBands);
  int64_t beside_blocks = 0;
  int beside_bytes = 0;
  Traffic traffic = gate_up_traffic(work, sizeof(float));
  if (beside) {
    beside_blocks = ceil_div(beside->all_bands, kBands);
    beside_bytes = kBesideFixed + beside->tokens * pitch_of(beside->steps());
    traffic.bytes += traffic_of(*beside).bytes;
  }
  const LaunchShape gate_up = {
      .grid = dim3(grid((wanted < resident ? wanted : resident) + beside_blocks)),
      .threads = kBands * kBandThreads,
      .shared_bytes = std::max(gate_up_bytes, beside_bytes),
      .traffic = traffic};
  launch(stream, overlap, gate_up,
         beside ? "experts: gate and up, dense down" : "experts: gate and up", gate_up_kernel<F>,
         work, beside.value_or(StreamWork()), static_cast<int>(beside_blocks));

  // With more tokens the inner values of a CTA should serve more rows.
  const auto down_shared = [&](int groups) {
    return groups * kDownFixed<F> + groups * pairs * 16 * static_cast<int>(sizeof(float)) +
           pairs * pitch_of(work.width_steps);
  };
  constexpr int kDownStatic = 3 * 1024;  // what the kernel declares itself
  const int groups = work.rows > 4 && down_shared(2) + kDownStatic <= most_shared_bytes() ? 2 : 1;
  const int down_bytes = down_shared(groups);
  const LaunchShape down = {.grid = dim3(grid(ceil_div(ceil_div(work.layer.hidden, 16), groups))),
                            .threads = static_cast<unsigned>(groups * kDownWarps * kWarp),
                            .shared_bytes = down_bytes,
                            .traffic = down_traffic(work, work.rows)};
  launch(stream, overlap, down, "experts: down", down_kernel<F>, work, groups);
}

template void experts_stream<Bf16Steps>(cudaStream_t,
                                        Overlap,
                                        const ExpertsWork&,
                                        const std::optional<StreamWork>&);
template void experts_stream<Nvfp4Steps>(cudaStream_t,
                                         Overlap,
                                         const ExpertsWork&,
                                         const std::optional<StreamWork>&);

}  // namespace facet::cuda
