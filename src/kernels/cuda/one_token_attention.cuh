#pragma once

// Attention of one token in one_token: which positions a CTA has, its products with them, and the
// join of all CTAs' results. The bits of attention_decode.cuh.

#include "kernels/cuda/attention_rows.cuh"
#include "kernels/cuda/one_token_norm.cuh"

namespace facet::cuda {

/// Sines and cosines of the token's position, for each kind of layer.
struct TokenRotation {
  float sines[OneTokenArgs::kKinds][kTokenAngles];
  float cosines[OneTokenArgs::kKinds][kTokenAngles];
};

/// What this CTA has of a kind's positions. One thread.
__device__ inline void find_task(const OneTokenArgs& args, int kind_index, TokenTask& task) {
  const OneTokenKind& kind = args.kinds[kind_index];
  const int position = args.positions[0];
  const int block = static_cast<int>(blockIdx.x) % kind.blocks;
  TileRows rows;
  rows.tokens = 1;
  rows.group = kind.q_heads / kind.kv_heads;
  rows.kv_head = static_cast<int>(blockIdx.x) / kind.blocks;
  rows.first_seen = kind.window > 0 ? max(0, position - kind.window + 1) : 0;
  rows.last_seen = position;
  task.rows = rows;
  task.kv_head = rows.kv_head;
  task.parts_a_piece =
      kind.window > 0 || (rows.last_part() + 1) * kind.kv_heads <= kFewTokenParts ? 1 : kSpanParts;
  const auto deal = [&](const auto& pieces) {
    task.first_piece = pieces.first;
    task.pieces = pieces.count;
    task.piece = RowPiece::of(pieces, block, kind.blocks, kind.window > 0);
  };
  if (task.parts_a_piece == 1) {
    deal(Pieces<1>(rows));
  } else {
    deal(Pieces<kSpanParts>(rows));
  }
  const bool any = rows.kv_head < kind.kv_heads && task.piece.any();
  const int pieces = kind.window > 0 ? 1 : task.piece.count;
  task.first_part = any ? task.piece.late * task.parts_a_piece : 0;
  const int end = min(rows.last_part() + 1, task.first_part + pieces * task.parts_a_piece);
  task.parts = any ? end - task.first_part : 0;
  task.fresh = any && end == rows.last_part() + 1 ? position : -1;
}

/// Where the CTA's positions of a kind lie. All threads, after find_task().
__device__ inline void find_kv_rows(const OneTokenArgs& args,
                                    int kind_index,
                                    const TokenTask& task,
                                    TokenKvRows& kv_rows) {
  const OneTokenKind& kind = args.kinds[kind_index];
  const int32_t* table = kind.pages + kind.table_begin[args.sequence_of_row[0]];
  const bool windowed = kind.window > 0;
  const auto seen = [&](int position) {
    return position >= task.rows.first_seen && position <= task.rows.last_seen;
  };
  const int count = task.parts == 0 ? 0 : windowed ? kPart : task.parts * 4;
  for (int i = static_cast<int>(threadIdx.x); i < count; i += kTokenThreads) {
    int position = task.first_part * kPart + i * (windowed ? 1 : 16);
    if (windowed && !seen(position) && task.piece.early >= 0)
      position = task.piece.early * kPart + i;
    int row = -1;
    if (seen(position)) {
      const int page = table[position / kind.page_size];
      row = (page * kind.kv_heads + task.kv_head) * kind.page_size + position % kind.page_size;
    }
    kv_rows.of[kind_index][i] = row;
  }
}

/// The angles of the token's position. All threads.
__device__ inline void find_rotation(const OneTokenArgs& args,
                                     int kind_index,
                                     TokenRotation& rotation) {
  const OneTokenKind& kind = args.kinds[kind_index];
  for (int i = static_cast<int>(threadIdx.x); i < kind.angles; i += kTokenThreads) {
    sincosf(__fmul_rn(static_cast<float>(args.positions[0]), kind.frequencies[i]),
            &rotation.sines[kind_index][i], &rotation.cosines[kind_index][i]);
  }
}

/// q of the CTA's heads, and K and V of the token's own position where the CTA has it, into
/// `start`; these into the cache too. Warps take heads in turn. All workers.
template <typename Config>
class TokenHeads {
 public:
  __device__ __forceinline__ static void prepare(const OneTokenArgs& args,
                                                 const OneTokenLayer& layer,
                                                 const TokenTask& task,
                                                 const TokenRotation& rotation,
                                                 int64_t fresh_row,
                                                 uint32_t number,
                                                 typename Config::Start& start) {
    const OneTokenKind& kind = args.kinds[layer.kind];
    const int heads = kind.q_heads / kind.kv_heads;
    Rotation<kPerLane> angles;
#pragma unroll
    for (int i = 0; i < kPerLane / 2; ++i) {
      const int index = lane() + i * kWarp;
      angles.sines[i] = rotation.sines[layer.kind][index];
      angles.cosines[i] = rotation.cosines[layer.kind][index];
    }
    for (int at = warp(); at < heads + (task.fresh >= 0 ? 2 : 0); at += kTokenWorkers) {
      const bool is_q = at < heads;
      const bool is_k = at == heads;
      const uint2* from = is_q ? args.rooms.q + (task.kv_head * heads + at) * Config::kD
                               : (is_k || layer.v_is_k != 0 ? args.rooms.k : args.rooms.v) +
                                     task.kv_head * Config::kD;
      const float* weights_from = is_q ? layer.q_norm : layer.k_norm;
      Head<kPerLane> mine;
      float weights[kPerLane];
#pragma unroll
      for (int i = 0; i < kPerLane; ++i)
        weights[i] = is_q || is_k ? __ldg(weights_from + lane() + i * kWarp) : 1.0F;
      hear<kPerLane>(
          number, [&](int i) { return from + lane() + i * kWarp; },
          [&](int i, uint32_t value) { mine.values[i] = __uint_as_float(value); });
      mine.norm(weights, args.eps);
      if (is_q || is_k) mine.rotate(angles, kind.angles, lane());
      if (is_q) {
#pragma unroll
        for (int i = 0; i < kPerLane; ++i) start.q[at][lane() + i * kWarp] = mine.values[i];
        continue;
      }
      std::byte* cache = (is_k ? layer.k_cache : layer.v_cache);
      auto* here = reinterpret_cast<std::byte*>(start.fresh[is_k ? 0 : 1]);
#pragma unroll
      for (int i = 0; i < kPerLane; ++i) {
        store_kv_value<Config::kType>(here, lane() + i * kWarp, mine.values[i]);
        store_kv_value<Config::kType>(cache, fresh_row * Config::kD + lane() + i * kWarp,
                                      mine.values[i]);
      }
    }
  }

 private:
  static constexpr int kPerLane = Config::kD / kWarp;
  __device__ static int warp() { return token_warp(); }
  __device__ static int lane() { return static_cast<int>(threadIdx.x) % kWarp; }
};

/// Partial results of a kind's heads: of each head's pieces the values, [head_dim], and of all
/// heads' pieces the state, maximum and sum.
struct TokenPartials {
  uint2* values;
  uint2* states;
  int pieces;
  int head_dim;

  __device__ TokenPartials(const OneTokenArgs& args, const OneTokenKind& kind)
      : values(args.rooms.partials),
        states(values + int64_t{kind.q_heads} * kind.pieces * kind.head_dim),
        pieces(kind.pieces),
        head_dim(kind.head_dim) {}

  __device__ uint2* value(int head, int piece) const {
    return values + (int64_t{head} * pieces + piece) * head_dim;
  }
  __device__ uint2* state(int head, int piece) const {
    return states + (int64_t{head} * pieces + piece) * 2;
  }
};

/// The token's heads of one KV head over the CTA's positions, into partial results. All workers;
/// `layer`'s products are there.
template <int kHeadDim>
__device__ __forceinline__ void attend_part(const OneTokenArgs& args,
                                            const TokenTables& tables,
                                            const OneTokenLayer& layer,
                                            const TokenRotation& rotation,
                                            uint32_t number,
                                            TokenRing& ring,
                                            uint8_t* scratch) {
  using Config = RowConfig<DType::kBF16, kHeadDim, 2, 1>;
  union Room {
    typename Config::Start start;
    typename Config::Scores scores;
  };
  Room& room = *reinterpret_cast<Room*>(scratch);
  const TokenTask& task = tables.tasks[layer.kind];
  const OneTokenKind& kind = args.kinds[layer.kind];
  const int heads = kind.q_heads / kind.kv_heads;
  const int warp = token_warp();
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int fresh_at = task.fresh - task.first_part * kPart;  // among the CTA's positions
  const int32_t* kv_rows = tables.kv_rows.of[layer.kind];
  const int64_t fresh_row = task.fresh < 0    ? 0
                            : kind.window > 0 ? kv_rows[fresh_at]
                                              : kv_rows[fresh_at / 16] + fresh_at % 16;
  sync_workers();  // nobody reads x any more
  TokenHeads<Config>::prepare(args, layer, task, rotation, fresh_row, number, room.start);
  sync_workers();
  RowMath<Config> math(room.scores, heads, 1.0F);
  uint4 fresh_unit = {};
  const bool works = warp < Config::kWarps;
  if (works) {
    math.take_q(room.start, task.piece.early >= 0);
    fresh_unit =
        load_shared(room.start.fresh[lane / 8 % 2] + warp * Config::kSliceBytes + lane % 8 * 16);
  }
  sync_workers();
  if (!works) return;

  const auto place = [](int row, int unit) { return row * 128 + (unit ^ (row % 8)) * 16; };
  // Puts K (side 0) or V of the token's own position where what was copied is not yet of it.
  const auto patch = [&](const uint8_t* slot, int side) {
    if (lane / 8 == side)
      *reinterpret_cast<uint4*>(const_cast<uint8_t*>(slot) +
                                place(fresh_at % kRowsOfSlot, lane % 8)) = fresh_unit;
  };
  const TokenPartials out(args, kind);
  const int first_head = task.kv_head * heads;
  const int late = task.piece.late - task.first_piece;
  float acc[4][4] = {};
  PairState state;
  for (int part = 0; part < task.parts; ++part) {
    const bool has_fresh = task.fresh >= 0 && fresh_at / kPart == part;
    constexpr int kSlots = kPart / kRowsOfSlot;
    const uint8_t* slots[kSlots];
    const auto take = [&](int side) {
#pragma unroll
      for (int n = 0; n < kSlots; ++n) {
        slots[n] = ring.wait(n);
        if (has_fresh && fresh_at % kPart / kRowsOfSlot == n) patch(slots[n], side);
      }
      __syncwarp();
    };
    const auto at = [&](int n, int row, int unit) {
      return slots[n / 2] + n % 2 * 16 * 128 + place(row, unit);
    };
    const auto give = [&] {
      show_to_copies();  // threads wrote there, copies of weights come next
#pragma unroll
      for (int n = 0; n < kSlots; ++n) ring.release();
    };
    take(0);
    math.score(at);
    give();
    bar_sync<2, Config::kThreads>();
    math.gather_scores([&](bool early, int row) {
      if (early && task.piece.early < 0) return false;
      const int position = ((early ? task.piece.early : task.first_part + part)) * kPart + row;
      return position >= task.rows.first_seen && position <= task.rows.last_seen;
    });
    bar_sync<2, Config::kThreads>();
    uint32_t high[8];
    uint32_t low[8];
    const JoinFactors factors = math.weigh(state, high, low);
    take(1);
    math.add_values(at, acc, factors, high, low);
    give();
    if ((part + 1) % task.parts_a_piece != 0 && part + 1 < task.parts) continue;
    const auto piece_of = [&](int column) {
      const bool early = column >= heads;
      if (column >= (task.piece.early >= 0 ? 2 * heads : heads)) return -1;
      return early ? 0 : late + part / task.parts_a_piece;
    };
    const auto head_of = [&](int column) { return first_head + column % heads; };
    if (const int piece = piece_of(lane / 4); warp == 0 && lane % 4 == 0 && piece >= 0) {
      uint2* to = out.state(head_of(lane / 4), piece);
      tell(to, state.max, number);
      tell(to + 1, state.sum, number);
    }
    state = {};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int column = lane % 4 * 2 + i % 2;
      const int piece = piece_of(column);
      uint2* to = out.value(head_of(column), max(piece, 0)) + warp * Config::kSlice;
#pragma unroll
      for (int m = 0; m < 4; ++m) {
        if (piece >= 0) tell(to + math.component(m, i / 2), acc[m][i], number);
        acc[m][i] = 0.0F;
      }
    }
  }
}

/// Joins all CTAs' partial results; warps of all CTAs take 32 components of a head in turn.
__device__ __forceinline__ void join_token(const OneTokenArgs& args,
                                           const TokenTables& tables,
                                           const OneTokenLayer& layer,
                                           uint32_t number) {
  const OneTokenKind& kind = args.kinds[layer.kind];
  const TokenTask& task = tables.tasks[layer.kind];
  const TokenPartials from(args, kind);
  const int units = kind.head_dim / kWarp;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
#pragma unroll 1
  for (int unit = token_warp() * static_cast<int>(gridDim.x) + static_cast<int>(blockIdx.x);
       unit < kind.q_heads * units; unit += kTokenWorkers * static_cast<int>(gridDim.x)) {
    const int head = unit / units;
    const int component = unit % units * kWarp + lane;
    // All are read together; if one was not there yet, all once more.
    bool there;
    const auto heard = [&](const uint2* word) {
      const uint2 value = look(word);
      there = there && value.y == number;
      return __uint_as_float(value.x);
    };
    const auto state_of = [&](int piece) {
      const uint2* word = from.state(head, piece);
      return PairState{heard(word), heard(word + 1)};
    };
    const auto value_of = [&](int piece) { return heard(from.value(head, piece) + component); };
    float value;
    do {
      there = true;
      if (task.parts_a_piece == 1) {
        value = join_pieces<1, 20>(task.first_piece, task.pieces, state_of, value_of);
      } else {
        value = join_pieces<kSpanParts, 8>(task.first_piece, task.pieces, state_of, value_of);
      }
    } while (!__all_sync(kAllLanes, there));
    const float next = __shfl_down_sync(kAllLanes, value, 1);
    if (lane % 2 == 0)
      tell(args.rooms.attended + (head * kind.head_dim + component) / 2, pack_bf16(value, next),
           number);
  }
}

}  // namespace facet::cuda
