// Attention on tensor cores; see attention_tiles.cuh for a tile's arithmetic.

#include <algorithm>

#include "kernels/cuda/attention_tiles.cuh"
#include "kernels/cuda/launch.h"

namespace facet::cuda {
namespace {

constexpr int kJoinThreads = 128;
/// Rows are taken in passes whose partial results fit this.
constexpr int64_t kMostWorkspace = int64_t{256} << 20;
/// Blocks from which on a walk over the parts keeps the GPU busy.
constexpr int64_t kManyBlocks = 128;

/// Partial results of the parts of each pair.
struct Partials {
  float* values = nullptr;      // [rows, q_heads, parts, head_dim]
  PairState* states = nullptr;  // [rows, q_heads, parts]
  int32_t parts = 0;
};

/// A block has a part (x), a KV head (y) and a tile of rows (z).
template <typename Config>
__global__ void __launch_bounds__(Config::kThreads)
    part_kernel(const AttentionArgs args, const RowRun run, int32_t tokens, Partials out) {
  extern __shared__ std::byte memory[];
  auto& shared = *reinterpret_cast<typename Config::Shared*>(memory);
  wait_for_previous();
  let_next_begin();
  const TileRows rows = tile_rows(args, run, blockIdx.z, tokens, static_cast<int32_t>(blockIdx.y));
  const int part = rows.first_part() + static_cast<int>(blockIdx.x);
  if (part > rows.last_part()) return;
  Tile<Config> tile(args, rows, shared);
  tile.load(shared.k, args.kv.k, part);
  copy_commit();
  tile.load(shared.v, args.kv.v, part);
  copy_commit();
  tile.load_q();
  copy_wait<1>();
  __syncthreads();
  tile.score(part);
  __syncthreads();
  tile.weigh();
  copy_wait<0>();
  __syncthreads();
  float acc[Config::kColTiles][4] = {};
  PairState states[2];
  tile.gather(acc, states);
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    if (!tile.is_row(h)) continue;
    const int64_t pair = (tile.row(h) - run.first_row) * args.q_heads + tile.head(h);
    const int64_t at = pair * out.parts + blockIdx.x;
    if (tile.first_of_pair()) out.states[at] = states[h];
#pragma unroll
    for (int n = 0; n < Config::kColTiles; ++n) {
      *reinterpret_cast<float2*>(out.values + at * Config::kD + tile.column(n)) =
          float2{acc[n][2 * h], acc[n][2 * h + 1]};
    }
  }
}

/// Joins the parts of one pair, a thread a component.
__global__ void __launch_bounds__(kJoinThreads)
    join_kernel(const AttentionArgs args, const RowRun run, int32_t tokens, Partials from) {
  wait_for_previous();
  let_next_begin();
  const int64_t local = blockIdx.x;
  const auto head = static_cast<int>(blockIdx.y);
  const int d = blockIdx.z * kJoinThreads + threadIdx.x;
  const TileRows rows = tile_rows(args, run, local / tokens, tokens, 0);
  const int parts = rows.last_part() - rows.first_part() + 1;
  const int64_t pair = local * args.q_heads + head;
  const PairState* states = from.states + pair * from.parts;
  const float* values = from.values + pair * from.parts * args.kv.head_dim + d;
  PairState state;
  float value = 0.0F;
#pragma unroll 8
  for (int p = 0; p < parts; ++p) {
    const PairState part = states[p];
    join(value, values[int64_t{p} * args.kv.head_dim], join(state, part.max, part.sum));
  }
  args.out[((run.first_row + local) * args.q_heads + head) * args.kv.head_dim + d] =
      value / state.sum;
}

/// A block has a KV head (y) and a tile of rows (x), the last first, whose parts it walks.
template <typename Config>
__global__ void __launch_bounds__(Config::kThreads)
    walk_kernel(const AttentionArgs args, const RowRun run, int32_t tokens) {
  extern __shared__ std::byte memory[];
  auto& shared = *reinterpret_cast<typename Config::Shared*>(memory);
  const TileRows rows =
      tile_rows(args, run, gridDim.x - 1 - blockIdx.x, tokens, static_cast<int32_t>(blockIdx.y));
  Tile<Config> tile(args, rows, shared);
  float acc[Config::kColTiles][4] = {};
  PairState states[2];
  const int last = rows.last_part();
  int part = rows.first_part();
  tile.load(shared.k, args.kv.k, part);
  copy_commit();
  tile.load(shared.v, args.kv.v, part);
  copy_commit();
  tile.load_q();
  for (; part <= last; ++part) {
    copy_wait<1>();  // the keys are there
    __syncthreads();
    tile.score(part);
    __syncthreads();
    if (part < last) tile.load(shared.k, args.kv.k, part + 1);
    copy_commit();
    tile.weigh();
    copy_wait<1>();  // the values are there
    __syncthreads();
    tile.gather(acc, states);
    __syncthreads();
    if (part < last) tile.load(shared.v, args.kv.v, part + 1);
    copy_commit();
  }
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    if (!tile.is_row(h)) continue;
    float* out = args.out + (tile.row(h) * args.q_heads + tile.head(h)) * Config::kD;
#pragma unroll
    for (int n = 0; n < Config::kColTiles; ++n) {
      *reinterpret_cast<float2*>(out + tile.column(n)) =
          float2{acc[n][2 * h] / states[h].sum, acc[n][2 * h + 1] / states[h].sum};
    }
  }
}

/// Parts that a tile of rows of the run sees at most.
int32_t parts_of(const AttentionArgs& args, const RowRun& run, int32_t tokens) {
  const auto all = static_cast<int32_t>(ceil_div(run.longest, kPart));
  if (args.window == 0) return all;
  return std::min(all, (args.window + tokens - 2) / kPart + 2);
}

/// How a run is cut: tiles of `tokens` rows, in passes of `pass_rows`.
struct Cut {
  bool walk = false;
  int32_t tokens = 1;
  int32_t parts = 0;
  int64_t pass_rows = 0;
};

int32_t group_of(const AttentionArgs& args) { return args.q_heads / args.kv.kv_heads; }

Cut cut(const AttentionArgs& args, const RowRun& run, int32_t walk_pairs) {
  Cut result;
  const int32_t walk_tokens = std::max(1, walk_pairs / group_of(args));
  result.walk =
      run.one_sequence && ceil_div(run.rows, walk_tokens) * args.kv.kv_heads >= kManyBlocks;
  if (result.walk) {
    result.tokens = walk_tokens;
    return result;
  }
  result.tokens = run.one_sequence ? std::max(1, 16 / group_of(args)) : 1;
  result.parts = parts_of(args, run, result.tokens);
  const int64_t row_bytes =
      int64_t{args.q_heads} * result.parts *
      (args.kv.head_dim * int64_t{sizeof(float)} + int64_t{sizeof(PairState)});
  const int64_t fitting = std::max<int64_t>(1, kMostWorkspace / row_bytes / result.tokens);
  result.pass_rows = std::min(fitting * result.tokens, round_up(run.rows, result.tokens));
  return result;
}

template <typename PartConfig, typename WalkConfig>
void run_tiles(cudaStream_t stream,
               const AttentionArgs& args,
               const RowRun& run,
               std::byte* workspace) {
  const Cut how = cut(args, run, WalkConfig::kPairs);
  const unsigned kv_heads = grid(args.kv.kv_heads);
  if (how.walk) {
    const LaunchShape shape = {.grid = dim3(grid(ceil_div(run.rows, how.tokens)), kv_heads),
                               .threads = WalkConfig::kThreads,
                               .shared_bytes = sizeof(typename WalkConfig::Shared),
                               .traffic = {bytes_of(args, run.rows, run.positions)}};
    launch(stream, Overlap::kNo, shape, "attention", walk_kernel<WalkConfig>, args, run,
           how.tokens);
    return;
  }
  for (int64_t done = 0; done < run.rows; done += how.pass_rows) {
    RowRun pass = run;
    pass.first_row += done;
    pass.rows = std::min(how.pass_rows, run.rows - done);
    Partials partials;
    partials.parts = how.parts;
    partials.values = reinterpret_cast<float*>(workspace);
    partials.states = reinterpret_cast<PairState*>(
        partials.values + how.pass_rows * args.q_heads * how.parts * args.kv.head_dim);
    const LaunchShape parts = {
        .grid = dim3(grid(how.parts), kv_heads, grid(ceil_div(pass.rows, how.tokens))),
        .threads = PartConfig::kThreads,
        .shared_bytes = sizeof(typename PartConfig::Shared),
        .traffic = {bytes_of(args, pass.rows, run.positions * pass.rows / run.rows)}};
    launch(stream, Overlap::kYes, parts, "attention: parts", part_kernel<PartConfig>, args, pass,
           how.tokens, partials);
    const LaunchShape joins = {
        dim3(grid(pass.rows), grid(args.q_heads), PartConfig::kD / kJoinThreads), kJoinThreads};
    launch(stream, Overlap::kYes, joins, "attention: join", join_kernel, args, pass, how.tokens,
           partials);
  }
}

using Part256 = TileConfig<256, 1, 4>;
using Walk256 = TileConfig<256, 4, 2>;
using Part512 = TileConfig<512, 1, 4>;
using Walk512 = TileConfig<512, 2, 4>;

}  // namespace

bool tiles_fit(const AttentionArgs& args) {
  const int32_t group = group_of(args);
  return args.kv.dtype == DType::kBF16 && (args.kv.head_dim == 256 || args.kv.head_dim == 512) &&
         group <= 16 && (group & (group - 1)) == 0;
}

int64_t attention_workspace_bytes(const AttentionArgs& args, const RowRun& run) {
  const Cut how = cut(args, run, args.kv.head_dim == 256 ? Walk256::kPairs : Walk512::kPairs);
  return how.pass_rows * args.q_heads * how.parts *
         (args.kv.head_dim * int64_t{sizeof(float)} + int64_t{sizeof(PairState)});
}

void attention_tiles(cudaStream_t stream,
                     const AttentionArgs& args,
                     const RowRun& run,
                     std::byte* workspace) {
  if (run.rows == 0) return;
  if (args.kv.head_dim == 256) {
    run_tiles<Part256, Walk256>(stream, args, run, workspace);
  } else {
    run_tiles<Part512, Walk512>(stream, args, run, workspace);
  }
}

}  // namespace facet::cuda
