#pragma once

// The kernel of single rows: Backend::prepare_attention for what a block needs, its piece of the
// positions, and the join with the other pieces.

#include "kernels/cuda/attention_rows.cuh"

namespace facet::cuda {

/// How the blocks of a row's heads tell each other their results.
enum class Join {
  kCluster,  ///< they are a cluster, on a ring if there is a window
  kMeeting,  ///< by Partials; all are under way at once and wait for each other
  kApart,    ///< by Partials; join_kernel follows
};

/// The heads of a block's row from their projections: q into shared.start; if `fresh`, K and V of
/// the row's own position there too, as they are stored, and, if `stores`, into the cache: scaled
/// if it is FP8. Warps take heads in turn.
template <typename Config>
class RowHeads {
 public:
  __device__ RowHeads(const AttentionArgs& args,
                      const Unprepared& from,
                      const TileRows& rows,
                      int first_head,
                      int heads,
                      bool fresh,
                      bool stores)
      : args_(args),
        from_(from),
        rows_(rows),
        first_head_(first_head),
        heads_(heads),
        fresh_(fresh),
        stores_(stores) {}

  /// Asks for what does not depend on the kernel before this one: before other copies start, which
  /// it would have to wait for.
  __device__ void load_weights() {
    if (from_.q_norm == nullptr) return;
    weights_.load(warp() < heads_ || from_.k == nullptr ? from_.q_norm : from_.k_norm, lane());
    rotation_.load(from_.frequencies, from_.angles, lane());
  }
  __device__ void find_rotation() {
    if (from_.q_norm == nullptr) return;
    rotation_.find(from_.angles, rows_.last_seen, lane());
    place_ = stores_ ? kv_place(args_.kv, table_of_row(args_.kv, rows_.first_row), rows_.kv_head,
                                rows_.last_seen)
                     : 0;
  }
  __device__ void prepare(typename Config::Shared& shared) {
    for (int task = warp(); task < heads_ + (fresh_ ? 2 : 0); task += Config::kWarps) {
      Head<kPerLane> mine;
      if (task < heads_) {
        const int64_t head = rows_.first_row * args_.q_heads + first_head_ + task;
        mine.load(args_.q + head * Config::kD, lane());
        if (from_.q_norm != nullptr) {
          mine.norm(weights_.values, from_.eps);
          mine.rotate(rotation_, from_.angles, lane());
        }
#pragma unroll
        for (int i = 0; i < kPerLane; ++i)
          shared.start.q[task][lane() + i * kWarp] = mine.values[i];
        continue;
      }
      const bool is_k = task == heads_;
      const int64_t kv_head = rows_.first_row * args_.kv.kv_heads + rows_.kv_head;
      mine.load((is_k ? from_.k : from_.v) + kv_head * Config::kD, lane());
      if (is_k) {
        if (warp() != task) weights_.load(from_.k_norm, lane());
        mine.norm(weights_.values, from_.eps);
        mine.rotate(rotation_, from_.angles, lane());
      } else {
        mine.norm(nullptr, from_.eps);
      }
      keep(mine, is_k, shared);
    }
  }

 private:
  static constexpr int kPerLane = Config::kD / kWarp;
  __device__ static int warp() { return static_cast<int>(threadIdx.x) / kWarp; }
  __device__ static int lane() { return static_cast<int>(threadIdx.x) % kWarp; }

  __device__ void keep(const Head<kPerLane>& mine,
                       bool is_k,
                       typename Config::Shared& shared) const {
    std::byte* cache = is_k ? args_.kv.k : args_.kv.v;
    auto* here = reinterpret_cast<std::byte*>(shared.start.fresh[is_k ? 0 : 1]);
    const float scale = is_k ? args_.kv.k_scale : args_.kv.v_scale;
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) {
      const float value = Config::kFp8 ? mine.values[i] / scale : mine.values[i];
      store_kv_value<Config::kType>(here, lane() + i * kWarp, value);
      if (stores_) store_kv_value<Config::kType>(cache, place_ + lane() + i * kWarp, value);
    }
  }

  const AttentionArgs& args_;
  const Unprepared& from_;
  const TileRows& rows_;
  const int first_head_;
  const int heads_;
  const bool fresh_;
  const bool stores_;
  int64_t place_ = 0;  // of the row's own position in the cache
  Head<kPerLane> weights_;
  Rotation<kPerLane> rotation_;
};

/// Adds one to `arrivals` for this block, whose earlier writes the blocks that see it then see, and
/// waits until it is `count`. All threads.
__device__ inline void meet(int32_t* arrivals, int count) {
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) {
    atomicAdd(arrivals, 1);
    while (*static_cast<volatile int32_t*>(arrivals) < count) {
    }
    __threadfence();
  }
  __syncthreads();
}
/// After a meeting of `count` blocks: leaves it as it was before.
__device__ inline void part_again(int32_t* arrivals, int count) {
  if (threadIdx.x == 0 && atomicAdd(arrivals, 1) == 2 * count - 1) *arrivals = 0;
}

/// Components that a warp joins at once: a unit. A head has kUnits of them.
template <typename Config>
constexpr int kUnits = Config::kD / kWarp;

/// What the blocks of a cluster send each other, in shared memory behind the rest: unit u of all
/// heads is joined by block u % blocks as its (u / blocks)-th.
struct Inbox {
  int blocks;   // of the cluster, each with one piece, on a ring up to one more
  float* from;  // values [units][blocks + 1][32], then PairState [units][blocks + 1]

  __host__ __device__ static constexpr int units(int all, int blocks) {
    return (all + blocks - 1) / blocks;
  }
  __host__ __device__ static constexpr int bytes(int all, int blocks) {
    return units(all, blocks) * (blocks + 1) *
           static_cast<int>(kWarp * sizeof(float) + sizeof(PairState));
  }
  __device__ float* values(int unit, int piece) const {
    return from + (unit / blocks * (blocks + 1) + piece) * kWarp;
  }
  __device__ float* state(int all, int unit, int piece) const {
    return from + units(all, blocks) * (blocks + 1) * kWarp +
           (unit / blocks * (blocks + 1) + piece) * 2;
  }
};

/// Sends a block's results to whom they concern. `pieces`: the numbers of its late and its early
/// piece among the row's; negative: it has none.
template <typename Config, typename Walk>
__device__ void send(const Inbox& inbox,
                     const Walk& walk,
                     const float (&acc)[4][4],
                     const PairState& state,
                     int heads,
                     const int (&pieces)[2]) {
  const int warp = threadIdx.x / kWarp;
  const int lane = threadIdx.x % kWarp;
  const int all = heads * kUnits<Config>;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int column = lane % 4 * 2 + i;
    const int piece = column < 2 * heads ? pieces[column / heads] : -1;
    if (piece < 0) continue;
#pragma unroll
    for (int m = 0; m < 4; ++m) {
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        const int component = warp * Config::kSlice + walk.component(m, h);
        const int unit = column % heads * kUnits<Config> + component / kWarp;
        store_cluster(shared_address(inbox.values(unit, piece) + component % kWarp),
                      unit % inbox.blocks, acc[m][2 * h + i]);
      }
    }
  }
  const int column = lane / 4;
  const int piece = column < 2 * heads ? pieces[column / heads] : -1;
  if (piece < 0) return;
  for (int u = warp * 4 + lane % 4; u < kUnits<Config>; u += Config::kWarps * 4) {
    const int unit = column % heads * kUnits<Config> + u;
    const uint32_t to = shared_address(inbox.state(all, unit, piece));
    store_cluster(to, unit % inbox.blocks, state.max);
    store_cluster(to + sizeof(float), unit % inbox.blocks, state.sum);
  }
}

/// This lane's component of a unit, from all pieces.
template <typename Config, int kParts>
__device__ float receive(const Inbox& inbox, const Pieces<kParts>& pieces, int all, int unit) {
  const float* values = inbox.values(unit, 0) + threadIdx.x % kWarp;
  const float* states = inbox.state(all, unit, 0);
  constexpr int kAtOnce = kParts == 1 ? 20 : 8;  // what a cluster has, from its first span's begin
  return join_pieces<kParts, kAtOnce>(
      pieces.first, pieces.count,
      [&](int piece) {
        return PairState{states[2 * piece], states[2 * piece + 1]};
      },
      [&](int piece) { return values[piece * kWarp]; });
}

/// A block has pieces of kParts parts (x), `heads` query heads of one KV head (y) and a row (z).
/// `arrivals`: [z, y], for meetings.
template <typename Config, int kParts, Join kJoin>
__global__ void __launch_bounds__(Config::kThreads, Config::kBlocks)
    rows_kernel(const AttentionArgs args,
                const Unprepared unprepared,
                const RowRun run,
                int32_t heads,
                Partials out,
                int32_t* arrivals) {
  extern __shared__ __align__(128) std::byte memory[];
  auto& shared = *reinterpret_cast<typename Config::Shared*>(memory);
  const bool ring = kJoin == Join::kCluster && args.window > 0;
  const int head_blocks = args.q_heads / args.kv.kv_heads / heads;  // of a KV head
  const int first_head = blockIdx.y * heads;
  const int block = blockIdx.x;
  const int warp = threadIdx.x / kWarp;
  const int lane = threadIdx.x % kWarp;
  const TileRows rows = tile_rows(args, run, blockIdx.z, 1, blockIdx.y / head_blocks);
  const Pieces<kParts> pieces(rows);
  const RowPiece piece = RowPiece::of(pieces, block, gridDim.x, ring);
  if (kJoin != Join::kCluster && !piece.any()) return;
  if (kJoin == Join::kCluster) cluster_arrive();  // others may write here once it is under way

  const bool has_last = piece.any() && piece.late + piece.count >= pieces.first + pieces.count;
  const bool fresh = unprepared.k != nullptr && has_last;
  RowWalk<Config, kParts> walk(args, rows, piece, heads, fresh ? rows.last_seen : -1, shared);
  float acc[4][4] = {};
  PairState state;
  RowHeads<Config> from(args, unprepared, rows, first_head, heads, fresh,
                        fresh && blockIdx.y % head_blocks == 0);
  from.load_weights();
  // Positions before a row's own are of steps long done; what the kernel before this one may have
  // written is not read before it has ended.
  if (unprepared.k == nullptr) wait_for_previous();
  if (piece.any()) walk.begin();
  from.find_rotation();
  if (unprepared.k != nullptr) wait_for_previous();
  let_next_begin();
  const int64_t first_pair = (rows.first_row - run.first_row) * args.q_heads + first_head;
  if (piece.any()) {
    from.prepare(shared);
    __syncthreads();
    walk.take_start();
    __syncthreads();
    walk.run(acc, state, [&](int done) {
      if (kJoin == Join::kCluster) return;
      const int at = piece.late - pieces.first + done;
      if (warp == 0 && lane % 4 == 0 && lane / 4 < heads)
        out.states[(first_pair + lane / 4) * out.pieces + at] = state;
      state = {};
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int head = lane % 4 * 2 + i % 2;
        float* to = out.values + ((first_pair + head) * out.pieces + at) * Config::kD +
                    warp * Config::kSlice;
#pragma unroll
        for (int m = 0; m < 4; ++m) {
          if (head < heads) to[walk.component(m, i / 2)] = acc[m][i];
          acc[m][i] = 0.0F;
        }
      }
    });
  }

  const float factor = Config::kFp8 ? args.kv.v_scale : 1.0F;
  const int all = heads * kUnits<Config>;
  float* to = args.out + (rows.first_row * args.q_heads + first_head) * Config::kD + lane;
  if constexpr (kJoin == Join::kCluster) {
    const Inbox inbox = {static_cast<int>(gridDim.x), reinterpret_cast<float*>(&shared + 1)};
    cluster_wait();
    const int own[2] = {piece.any() ? piece.late - pieces.first : -1, piece.early < 0 ? -1 : 0};
    send<Config>(inbox, walk, acc, state, heads, own);
    cluster_sync();
    for (int unit = warp * inbox.blocks + block; unit < all; unit += Config::kWarps * inbox.blocks)
      to[unit * kWarp] = __fmul_rn(receive<Config>(inbox, pieces, all, unit), factor);
  }
  if constexpr (kJoin == Join::kMeeting) {
    int32_t* meeting = arrivals + blockIdx.z * gridDim.y + blockIdx.y;
    const int blocks = (pieces.count + piece.count - 1) / piece.count;
    meet(meeting, blocks);
    for (int unit = warp * blocks + block; unit < all; unit += Config::kWarps * blocks) {
      const float value =
          join_partials<kParts, 32>(out, first_pair + unit / kUnits<Config>, pieces, Config::kD,
                                    unit % kUnits<Config> * kWarp + lane);
      to[unit * kWarp] = __fmul_rn(value, factor);
    }
    __syncthreads();
    part_again(meeting, blocks);
  }
}

}  // namespace facet::cuda
