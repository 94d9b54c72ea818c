// Products of up to 16 tokens: bound by the bytes of w.
//
// A CTA has `groups` bands of 16 rows under way; four warps share a band, one for each chunk of K.
// Every warp streams its rows through a ring of its own in shared memory: a lane copies what it
// will read itself, so nothing but the ends of chunks wait for other warps, and the ring runs on
// into the warp's next band. Weights are asked for before the kernel waits for the one before it.
//
//   ring     [warps][kStages][kBandBytes]
//   partial  [2][groups][kChunks][8 or 16 tokens][16 rows] float: sums of chunks, two bands in turn
//   x        [tokens][steps * 128 + 64 or so] BF16 in F's order; rows start 64 bytes apart in banks

#include <algorithm>

#include "kernels/cuda/linear_kernels.h"
#include "kernels/cuda/out_scale.cuh"
#include "kernels/cuda/steps.cuh"

namespace facet::cuda {
namespace {

constexpr int kPartial = 8 * 16;  // of each 8 tokens
constexpr int kGroupThreads = kChunks * kWarp;
constexpr int kMaxGroups = 4;

/// x_pitch for both sides.
__host__ __device__ constexpr int pitch_of(int steps) { return steps * kStepBytesX + 64; }
static_assert(pitch_of(44) == x_pitch(44));

template <class F>
struct Config;
template <>
struct Config<Bf16Steps> {
  static constexpr int kStages = 4;
};
template <>
struct Config<Fp8Steps> {
  static constexpr int kStages = 7;
};
template <>
struct Config<Nvfp4Steps> {
  static constexpr int kStages = 12;
};

template <class F>
int shared_bytes(int groups, int tokens, int steps) {
  const int ring = groups * kChunks * Config<F>::kStages * F::kBandBytes;
  const int blocks = (tokens + 7) / 8;
  const int partial = 2 * groups * kChunks * blocks * kPartial * static_cast<int>(sizeof(float));
  return ring + partial + tokens * pitch_of(steps);
}

/// Waits for the four warps of a group. Written out: a barrier with a number unknown to the
/// compiler takes all sixteen.
__device__ __forceinline__ void sync_group(int group) {
  switch (group) {
    case 0:
      return bar_sync<1, kGroupThreads>();
    case 1:
      return bar_sync<2, kGroupThreads>();
    case 2:
      return bar_sync<3, kGroupThreads>();
    default:
      return bar_sync<4, kGroupThreads>();
  }
}

/// kBlocks: of 8 tokens.
template <class F, int kBlocks>
__global__ void __launch_bounds__(kMaxGroups* kGroupThreads)
    stream_kernel(const LinearBands args, int groups) {
  constexpr int kStages = Config<F>::kStages;
  extern __shared__ __align__(128) uint8_t shared[];
  const int warp = threadIdx.x / kWarp;
  const int lane = threadIdx.x % kWarp;
  const int chunk = warp % kChunks;
  const int group = warp / kChunks;
  const int steps = args.w.steps;
  const int chunks = chunks_of(steps);
  const int begin = chunk < chunks ? chunk_begin(steps, chunk) : 0;
  const int end = chunk < chunks ? chunk_begin(steps, chunk + 1) : 0;
  const int stride = gridDim.x * groups;
  const int first = blockIdx.x * groups + group;

  const uint8_t* ring = shared + warp * kStages * F::kBandBytes;
  const uint32_t ring_at = shared_address(ring);
  auto* partial = reinterpret_cast<float*>(shared + groups * kChunks * kStages * F::kBandBytes);
  constexpr int kPartials = kBlocks * kPartial;
  uint8_t* x = reinterpret_cast<uint8_t*>(partial + 2 * groups * kChunks * kPartials);
  const uint64_t policy = evict_first();

  int next_band = first;
  int next_step = begin;
  int next_stage = 0;
  LaneUnits<F> units;
  units.seek(args.w, next_band, lane);
  const auto issue = [&] {
    if (next_band < args.w.bands && begin < end) {
      units.copy(ring_at + next_stage * F::kBandBytes, args.w, next_step, lane, policy);
      if (++next_step == end) {
        next_step = begin;
        next_band += stride;
        units.seek(args.w, next_band, lane);
      }
      if (++next_stage == kStages) next_stage = 0;
    }
    copy_commit();
  };
#pragma unroll
  for (int i = 0; i < kStages - 1; ++i) issue();

  wait_for_previous();
  stage_x<F>(x, pitch_of(steps), args.tokens, steps, args.cols,
             [&](int token) { return args.x + int64_t{token} * args.cols; });
  __syncthreads();
  let_next_begin();

  // Lanes of tokens that are not there compute the last one once more; nobody reads it.
  const uint8_t* x_at[kBlocks];
#pragma unroll
  for (int b = 0; b < kBlocks; ++b)
    x_at[b] = x + min(b * 8 + lane / 4, args.tokens - 1) * pitch_of(steps) + lane % 4 * 16;
  int stage = 0;
  int parity = 0;
  for (int band = first; band < args.w.bands; band += stride, parity ^= 1) {
    float sums[kBlocks][4] = {};
    for (int step = begin; step < end; ++step) {
      copy_wait<kStages - 2>();
      __syncwarp();
      Fragment weights[2];
      F::fragments(ring + stage * F::kBandBytes, lane, weights);
#pragma unroll
      for (int p = 0; p < 2; ++p)
#pragma unroll
        for (int b = 0; b < kBlocks; ++b)
          add_products(sums[b], weights[p], load_shared(x_at[b] + step * kStepBytesX + p * 64));
      if (++stage == kStages) stage = 0;
      __syncwarp();
      issue();
    }
    float* mine = partial + ((parity * groups + group) * kChunks) * kPartials;
    if (chunk < chunks) {
#pragma unroll
      for (int b = 0; b < kBlocks; ++b) {
        float* to = mine + chunk * kPartials + b * kPartial + lane % 4 * 2 * 16 + lane / 4;
        to[0] = sums[b][0], to[16] = sums[b][1], to[8] = sums[b][2], to[24] = sums[b][3];
      }
    }
    sync_group(group);
#pragma unroll
    for (int b = 0; b < kBlocks; ++b) {
      const int element = b * kGroupThreads + threadIdx.x % kGroupThreads;  // token * 16 + row
      const int row = band * 16 + element % 16;
      if (element / 16 >= args.tokens || row >= args.rows) continue;
      float sum = 0.0F;
      for (int c = 0; c < chunks; ++c) sum = __fadd_rn(sum, mine[c * kPartials + element]);
      args.out[int64_t{element / 16} * args.rows + row] = apply_scale(args.scale, sum, row);
    }
  }
}

/// Bands per CTA: with more tokens, x should serve more rows and take more threads to round; few
/// bands should take more SMs. Measured on an H100, November 2026 (cuda_products time).
int choose_groups(int bands, int tokens) {
  constexpr int kProcessors = 132;
  if (bands < kProcessors) return tokens <= 4 ? 1 : 2;
  return tokens > 4 || bands >= 3 * kProcessors ? 4 : 2;
}

/// Shared memory of a CTA; where there is more, the rest is left to what the kernel declares.
int most_shared() { return std::min(226 * 1024, most_shared_bytes()); }

}  // namespace

template <class F>
bool stream_fits(const LinearBands& args) {
  return shared_bytes<F>(1, args.tokens, args.w.steps) <= most_shared();
}

template <class F>
void linear_stream(cudaStream_t stream, Overlap overlap, const LinearBands& args, int groups) {
  if (groups == 0) groups = choose_groups(args.w.bands, args.tokens);
  while (groups > 1 && shared_bytes<F>(groups, args.tokens, args.w.steps) > most_shared())
    groups /= 2;
  const int bytes = shared_bytes<F>(groups, args.tokens, args.w.steps);
  const int resident = std::max(1, most_shared() / (bytes + 1024));
  const int64_t most = 132 * (resident < 4 / groups + 1 ? resident : 4 / groups + 1);
  const int64_t wanted = ceil_div(args.w.bands, groups);
  const LaunchShape shape = {dim3(grid(wanted < most ? wanted : most)),
                             static_cast<unsigned>(groups * kGroupThreads), bytes};
  const auto kernel = args.tokens <= 8 ? stream_kernel<F, 1> : stream_kernel<F, 2>;
  launch(stream, overlap, shape, "linear_stream", kernel, args, groups);
}

template bool stream_fits<Bf16Steps>(const LinearBands&);
template bool stream_fits<Fp8Steps>(const LinearBands&);
template bool stream_fits<Nvfp4Steps>(const LinearBands&);
template void linear_stream<Bf16Steps>(cudaStream_t, Overlap, const LinearBands&, int);
template void linear_stream<Fp8Steps>(cudaStream_t, Overlap, const LinearBands&, int);
template void linear_stream<Nvfp4Steps>(cudaStream_t, Overlap, const LinearBands&, int);

}  // namespace facet::cuda
