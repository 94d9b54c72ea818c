// Experts of up to 8 rows and 64 pairs: bound by the bytes of the chosen experts, read once each.
//
// Both kernels may choose the experts themselves, from the router's logits: that takes less time
// than to wait for somebody who chooses for all.
//
// One row: both are one launch, whose CTAs wait for each other between. They ask for down's weights
// as soon as they have asked for all of gate's and up's. They are no more than find room at once,
// and begin as soon as the router's CTAs are done, which the kernel before may outlast.
//
// gate_up: the bands (8 rows of gate and 8 of up each) of all chosen experts are dealt to CTAs,
// which have two under way, four warps a band, a chunk of K each, each with a ring of its own. A
// band meets the tokens that chose its expert; all x stand in shared memory. Some CTAs may have a
// product of their own, whose weights they ask for while the router is still at work. A warp that
// has asked for all its weights asks L2 for some of down's.
//
// down: a CTA has a band of 16 rows for all experts; its warps share the chosen experts out, stream
// their rows of the band one after another, and the results meet in shared memory, where each row's
// are added in the order of its choices. It chooses, and asks for its first weights, while gate_up
// still runs.

#include <algorithm>

#include "kernels/cuda/experts_stream.cuh"

namespace facet::cuda {
namespace {

/// Of gate_up's rings: more would take the room of what runs beside (measured on an H200, November
/// 2026, cuda_products time).
template <class F>
constexpr int kGateUpStages = kMostStages<F>;
template <>
constexpr int kGateUpStages<Nvfp4Steps> = 2;

// experts_stream_fits() reckons with no less than the kernels take at least.
template <class F>
constexpr bool reckoned(WeightFormat format) {
  constexpr int kSums = kStreamExpertRows * 2 * kGateUpWarps * 16 * static_cast<int>(sizeof(float));
  constexpr int kRings = kGateUpWarps * kFewestStages * kPieceBytes<F>;
  constexpr int kDownRings = kDownWarps * kFewestStages * kPieceBytes<F>;
  return kRings + kSums <= expert_gate_up_fixed_bytes(format) &&
         kDownRings <= expert_down_fixed_bytes(format);
}
static_assert(reckoned<Bf16Steps>(WeightFormat::kBF16) &&
              reckoned<Nvfp4Steps>(WeightFormat::kNvfp4));

/// Any grid: the bands of all chosen experts are dealt to the CTAs' slots in turn; the first
/// `beside_blocks` are those of `beside`. shared: rings, partial [2][kBands][kChunks][rows][16]
/// (sums of chunks, two bands in turn), x of all rows. With work.arrivals down too, if all CTAs
/// find room at once; inner and results then take the place of partial and x.
template <class F>
__global__ void __launch_bounds__(kBands* kBandThreads, 2)
    gate_up_kernel(const __grid_constant__ ExpertsWork work,
                   const __grid_constant__ StreamWork beside,
                   int beside_blocks,
                   int stages) {
  extern __shared__ __align__(128) uint8_t shared[];
  __shared__ StreamChoice choice;
  __shared__ ExpertPointers table[kTableExperts];
  __shared__ uint64_t barriers[kGateUpWarps][kMostStages<F>];
  const int blocks = gridDim.x - beside_blocks;
  const bool beside_last = work.rows > kBesideFirstRows;
  const int first_beside = beside_last ? blocks : 0;
  if (const int at = static_cast<int>(blockIdx.x) - first_beside; at >= 0 && at < beside_blocks)
    return run_beside(beside, at, beside_blocks, shared);
  const int block = blockIdx.x - (beside_last ? 0 : beside_blocks);
  const int warp = threadIdx.x / kWarp;
  const int lane = threadIdx.x % kWarp;
  const int chunk = warp % kChunks;
  const int slot = warp / kChunks;
  const int steps = work.hidden_steps;
  const int chunks = chunks_of(steps);
  const int begin = chunk < chunks ? chunk_begin(steps, chunk) : 0;
  const int end = chunk < chunks ? chunk_begin(steps, chunk + 1) : 0;
  const int bands = work.width_steps * 8;  // zeros beyond the width
  PieceRing<F> ring(shared + warp * stages * kPieceBytes<F>, barriers[warp], stages, lane);
  auto* partial = reinterpret_cast<float*>(shared + kGateUpWarps * stages * kPieceBytes<F>);
  const int chunk_floats = work.rows * 16;
  uint8_t* x = reinterpret_cast<uint8_t*>(partial + 2 * kGateUpWarps * chunk_floats);

  const ExpertPointers* experts = work.layer.experts;
  if (work.layer.count <= kTableExperts) {
    for (int e = threadIdx.x; e < work.layer.count; e += blockDim.x) table[e] = experts[e];
    experts = table;
  }
  const bool chooses = work.choice.logits != nullptr;
  const bool early = chooses && work.choice.routed != nullptr;  // who counts there is under way
  if (early) {
    if (threadIdx.x == 0) {
      while (load_acquire(work.choice.routed) < work.choice.routers) {
      }
    }
    __syncthreads();
  } else {
    wait_for_previous();
  }
  let_next_begin();
  const bool apart = chooses && work.rows == 1;  // one warp chooses, the others round x
  if (!apart || warp == 0) read_choice(work, choice, chooses && block == 0);
  if (apart) stage_rows<F>(work, x, 1);
  find_groups(work, choice);

  // Slots in turn over all CTAs: so SMs differ by a band, not by a CTA.
  const BandWalk stride = BandWalk::of(blocks * kBands, bands);
  BandWalk at = BandWalk::of(slot * blocks + block, bands);
  BandWalk next = at;
  int next_step = begin;
  const int groups = begin < end ? choice.count : 0;
  const bool goes_on = work.arrivals != nullptr;
  DownFeed<F> feed = {work,   experts,     choice, warp, goes_on ? block : down_band_count(work),
                      blocks, kGateUpWarps};
  const auto fill = [&] {
    if (next.group >= groups) return feed.fill(ring);
    if (next_step == begin)
      ring.seek(gate_up_bands<F>(work, experts[choice.groups[next.group].expert]), next.band);
    const int count = min(kPieceSteps<F>, end - next_step);
    ring.fill(next_step, count);
    next_step += count;
    if (next_step < end) return;
    next_step = begin;
    next.step(stride, bands);
    if (next.group >= groups && !goes_on)
      prefetch_down<F>(work, experts, choice, block * kGateUpWarps + warp, blocks * kGateUpWarps);
  };
#pragma unroll 1
  for (int i = 0; i < stages; ++i) fill();
  if (!apart) {
    stage_rows<F>(work, x, 0);
    __syncthreads();
  }
  if (chooses && block == 0) {
    for (int p = threadIdx.x; p < work.rows * work.top_k; p += blockDim.x) {
      work.choice.experts[p] = choice.experts[p];
      work.choice.weights[p] = choice.weights[p];
    }
  }

  int parity = 0;
  for (; at.group < choice.count; at.step(stride, bands), parity ^= 1) {
    const ExpertGroup& group = choice.groups[at.group];
    const uint8_t* x_at =
        x + group.pairs[min(lane / 4, group.count - 1)] / work.top_k * pitch_of(steps) +
        lane % 4 * 16;
    float sums[4] = {};
    for (int step = begin; step < end; step += kPieceSteps<F>) {
      add_piece<F>(sums, ring.wait(), x_at + step * kStepBytesX, min(kPieceSteps<F>, end - step),
                   lane);
      ring.release();
      fill();
    }
    float* mine = partial + (parity * kBands + slot) * kChunks * chunk_floats;
    if (chunk < chunks) {
      float* to = mine + chunk * chunk_floats + lane % 4 * 2 * 16 + lane / 4;
      if (lane % 4 * 2 < work.rows) to[0] = sums[0], to[8] = sums[2];
      if (lane % 4 * 2 + 1 < work.rows) to[16] = sums[1], to[24] = sums[3];
    }
    if (slot == 0) {
      bar_sync<1, kBandThreads>();
    } else {
      bar_sync<2, kBandThreads>();
    }
    store_gate_up<F>(work, experts[group.expert], group, at.band, mine, chunks);
  }
  if (early) wait_for_previous();
  if (!goes_on) return;
  meet(work.arrivals, blocks, work.choice.routed);
  float* results = partial;
  if (static_cast<int>(threadIdx.x) < work.rows * work.top_k) {
    choice.weights[threadIdx.x] =
        __ldcg((chooses ? work.choice.weights : work.weights) + threadIdx.x);
  }
  const auto refill = [&] { feed.fill(ring); };
  for (int band = block; band < down_band_count(work); band += blocks) {
    for (int g = warp; g < choice.count; g += kGateUpWarps)
      down_group<F>(ring, work, choice.groups[g], experts, results, refill);
    __syncthreads();
    add_choices(work, choice, results, band);
    __syncthreads();
  }
}

/// Grid: [bands]. shared: rings, results [pairs][16].
template <class F>
__global__ void __launch_bounds__(kDownWarps* kWarp, 2)
    down_kernel(const __grid_constant__ ExpertsWork work, int stages) {
  extern __shared__ __align__(128) uint8_t shared[];
  __shared__ StreamChoice choice;
  __shared__ uint64_t barriers[kDownWarps][kMostStages<F>];
  const int warp = threadIdx.x / kWarp;
  const int lane = threadIdx.x % kWarp;
  const int band = blockIdx.x;
  PieceRing<F> ring(shared + warp * stages * kPieceBytes<F>, barriers[warp], stages, lane);
  auto* results = reinterpret_cast<float*>(shared + kDownWarps * stages * kPieceBytes<F>);

  // The routing is older than the kernel before this one, which waited for it.
  if (work.rows > 1 || work.choice.logits == nullptr || warp == 0) read_choice(work, choice, true);
  find_groups(work, choice);
  const ExpertPointers* experts = work.layer.experts;
  DownFeed<F> feed = {work, experts, choice, warp, band, down_band_count(work), kDownWarps};
  const auto fill = [&] { feed.fill(ring); };
#pragma unroll 1
  for (int i = 0; i < stages; ++i) fill();

  let_next_begin();
  wait_for_previous();
  if (work.choice.routed != nullptr && band == 0 && threadIdx.x == 0) *work.choice.routed = 0;
  for (int g = warp; g < choice.count; g += kDownWarps)
    down_group<F>(ring, work, choice.groups[g], experts, results, fill);
  __syncthreads();
  add_choices(work, choice, results, band);
}

/// Dynamic shared memory.
template <class F>
int gate_up_bytes(const ExpertsWork& work, int stages) {
  return kGateUpWarps * stages * kPieceBytes<F> +
         work.rows * (2 * kGateUpWarps * 16 * static_cast<int>(sizeof(float)) +
                      pitch_of(work.hidden_steps));
}
template <class F>
int down_bytes(const ExpertsWork& work, int warps, int stages) {
  return warps * stages * kPieceBytes<F> +
         work.rows * work.top_k * 16 * static_cast<int>(sizeof(float));
}

/// The most CTAs of `bytes(stages)` that an SM holds, up to three, and as many stages as they may
/// then have.
template <class F, class Bytes>
int choose_stages(int most_ctas, int most_stages, const Bytes& bytes) {
  for (int ctas = most_ctas; ctas > 1; --ctas) {
    for (int stages = most_stages; stages >= kFewestStages; --stages) {
      if (ctas * (bytes(stages) + static_cast<int>(kExpertsStreamStatic)) <= most_shared_bytes())
        return stages;
    }
  }
  for (int stages = most_stages; stages > kFewestStages; --stages) {
    if (bytes(stages) + static_cast<int>(kExpertsStreamStatic) <= most_shared_bytes())
      return stages;
  }
  return kFewestStages;
}

template <class F>
int joined_bytes(const ExpertsWork& work, int stages) {
  return std::max(gate_up_bytes<F>(work, stages), down_bytes<F>(work, kGateUpWarps, stages));
}

int beside_bytes(const std::optional<StreamWork>& beside) {
  return beside ? kBesideFixed + beside->tokens * pitch_of(beside->steps()) : 0;
}

/// Whether all CTAs of a launch that goes on to down find room at once.
template <class F>
bool goes_on(const ExpertsWork& work, int other_bytes) {
  return work.rows == 1 && work.arrivals != nullptr &&
         2 * (std::max(joined_bytes<F>(work, kFewestStages), other_bytes) +
              static_cast<int>(kExpertsStreamStatic)) <=
             most_shared_bytes();
}

/// work.arrivals: go on to down.
template <class F>
void launch_gate_up(cudaStream_t stream,
                    Overlap overlap,
                    const ExpertsWork& work,
                    const std::optional<StreamWork>& beside) {
  const auto bytes_of = [&](int stages) {
    return work.arrivals != nullptr ? joined_bytes<F>(work, stages)
                                    : gate_up_bytes<F>(work, stages);
  };
  const int stages = choose_stages<F>(3, kGateUpStages<F>, bytes_of);
  const int bytes = bytes_of(stages);
  // Two CTAs an SM, so that those of `beside` find room.
  const int64_t resident =
      multiprocessors() *
      std::clamp(most_shared_bytes() / (bytes + static_cast<int>(kExpertsStreamStatic)), 1, 2);
  const int64_t wanted = ceil_div(int64_t{work.rows} * work.top_k * work.width_steps * 8, kBands);
  const int64_t beside_blocks = beside ? ceil_div(beside->all_bands, kBands) : 0;
  // One row: all at once, those beside too, and no more than would take as many rounds.
  const int64_t room = work.rows == 1 ? std::max(resident - beside_blocks, resident / 2) : resident;
  const int64_t blocks =
      work.rows == 1 ? ceil_div(wanted, ceil_div(wanted, room)) : std::min(wanted, resident);
  Traffic traffic = gate_up_traffic(work, sizeof(float));
  if (beside) traffic.bytes += traffic_of(*beside).bytes;
  if (work.arrivals != nullptr) {
    const Traffic down = down_traffic(work, work.rows);
    traffic.bytes += down.bytes;
    traffic.expert_bytes += down.expert_bytes;
  }
  const LaunchShape shape = {.grid = dim3(grid(blocks + beside_blocks)),
                             .threads = kBands * kBandThreads,
                             .shared_bytes = std::max(bytes, beside_bytes(beside)),
                             .traffic = traffic};
  const char* name = work.arrivals != nullptr
                         ? (beside ? "experts, dense down" : "experts")
                         : (beside ? "experts: gate and up, dense down" : "experts: gate and up");
  launch(stream, overlap, shape, name, gate_up_kernel<F>, work, beside.value_or(StreamWork()),
         static_cast<int>(beside_blocks), stages);
}

template <class F>
void launch_down(cudaStream_t stream, Overlap overlap, const ExpertsWork& work) {
  const int stages = choose_stages<F>(
      2, kMostStages<F>, [&](int count) { return down_bytes<F>(work, kDownWarps, count); });
  const LaunchShape shape = {.grid = dim3(grid(ceil_div(work.layer.hidden, 16))),
                             .threads = kDownWarps * kWarp,
                             .shared_bytes = down_bytes<F>(work, kDownWarps, stages),
                             .traffic = down_traffic(work, work.rows)};
  launch(stream, overlap, shape, "experts: down", down_kernel<F>, work, stages);
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
  ExpertsWork all = work;
  if (!goes_on<F>(work, beside_bytes(beside))) all.arrivals = nullptr;
  launch_gate_up<F>(stream, overlap, all, beside);
  if (all.arrivals == nullptr) launch_down<F>(stream, overlap, work);
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
