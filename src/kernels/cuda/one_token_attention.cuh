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

/// What a CTA's warps tell each other in attention: as rows of 512 components, whichever there are.
struct TokenAttention {
  using Config = RowConfig<DType::kBF16, 512, 2, 1>;
  struct Sums {
    float scores[Config::kWarps][kPart * Config::kColumns];  // of each slice of 64 components
    uint32_t high[Config::kColumns][kPart / 2];  // the softmax's weights of a column as the lanes
    uint32_t low[Config::kColumns][kPart / 2];   // of its product take them: two BF16 terms
    float2 factors[Config::kColumns];            // JoinFactors, `now` below 0 where there is none
  };
  union {
    typename Config::Start start;
    Sums sums;
  };
};
static_assert(sizeof(TokenAttention) <= kTokenScratch);

/// The components of a head that a lane has: l, l + 32, … of each half, room for those of 512.
/// Fewer instructions for both sizes than one piece of code each, which would not stay in the
/// instruction cache.
class TokenHead {
 public:
  __device__ __forceinline__ TokenHead(bool wide) : wide_(wide), lane_(thread_now() % kWarp) {}

  /// Whether the k-th is one, and which.
  __device__ __forceinline__ bool has(int k) const { return wide_ || k % kPairs < kPairs / 2; }
  __device__ __forceinline__ int component(int k) const {
    const int half = k < kPairs ? 0 : wide_ ? 256 : 128;
    return half + (has(k) ? k % kPairs : 0) * kWarp + lane_;
  }
  __device__ __forceinline__ void hear_all(const uint2* from, uint32_t number) {
    hear<2 * kPairs>(
        number, [&](int k) { return from + component(k); },
        [&](int k, uint32_t value) { v[k] = has(k) ? __uint_as_float(value) : 0.0F; });
  }
  /// A norm's weights; null: none.
  __device__ __forceinline__ void load_weights(const float* weights) {
#pragma unroll
    for (int k = 0; k < 2 * kPairs; ++k)
      v[k] = weights != nullptr ? __ldg(weights + component(k)) : 1.0F;
  }
  /// Head::norm().
  __device__ __forceinline__ void norm(const TokenHead& weights, float eps) {
    float squares = 0.0F;
#pragma unroll
    for (int k = 0; k < 2 * kPairs; ++k) squares = fmaf(v[k], v[k], squares);
    const float mean = __fmul_rn(warp_sum(squares), wide_ ? 1.0F / 512 : 1.0F / 256);
    const float inverse = 1.0F / sqrtf(__fadd_rn(mean, eps));
#pragma unroll
    for (int k = 0; k < 2 * kPairs; ++k) v[k] = __fmul_rn(__fmul_rn(v[k], inverse), weights.v[k]);
  }
  /// Head::rotate().
  __device__ __forceinline__ void rotate(const float* sines, const float* cosines, int angles) {
#pragma unroll
    for (int k = 0; k < kPairs; ++k) {
      const int index = component(k);
      if (!has(k) || index >= angles) continue;
      const float a = v[k];
      const float b = v[k + kPairs];
      v[k] = fmaf(a, cosines[index], -__fmul_rn(b, sines[index]));
      v[k + kPairs] = fmaf(b, cosines[index], __fmul_rn(a, sines[index]));
    }
  }
  /// store(component, value) of each.
  template <typename Store>
  __device__ __forceinline__ void each(const Store& store) const {
#pragma unroll
    for (int k = 0; k < 2 * kPairs; ++k)
      if (has(k)) store(component(k), v[k]);
  }

 private:
  static constexpr int kPairs = 8;
  const bool wide_;
  const int lane_;
  float v[2 * kPairs];
};

/// q of the CTA's heads, and K and V of the token's own position where the CTA has it, into
/// `start`; these into the cache too. Warps take heads in turn. All workers.
__device__ __forceinline__ void prepare_heads(const OneTokenArgs& args,
                                              const OneTokenLayer& layer,
                                              const TokenTask& task,
                                              const TokenRotation& rotation,
                                              int64_t fresh_row,
                                              uint32_t number,
                                              TokenAttention::Config::Start& start) {
  const OneTokenKind& kind = args.kinds[layer.kind];
  const int heads = task.rows.group;
#pragma unroll 1
  for (int at = token_warp(); at < heads + (task.fresh >= 0 ? 2 : 0); at += kTokenWorkers) {
    const bool is_q = at < heads;
    const bool is_k = at == heads;
    const uint2* from = is_q ? args.rooms.q + (task.kv_head * heads + at) * kind.head_dim
                             : (is_k || layer.v_is_k != 0 ? args.rooms.k : args.rooms.v) +
                                   task.kv_head * kind.head_dim;
    const bool wide = kind.head_dim == 512;
    TokenHead weights(wide);
    weights.load_weights(is_q ? layer.q_norm : is_k ? layer.k_norm : nullptr);
    TokenHead mine(wide);
    mine.hear_all(from, number);
    mine.norm(weights, args.eps);
    if (is_q || is_k)
      mine.rotate(rotation.sines[layer.kind], rotation.cosines[layer.kind], kind.angles);
    if (is_q) {
      mine.each([&](int component, float value) { start.q[at][component] = value; });
    } else {
      std::byte* cache = (is_k ? layer.k_cache : layer.v_cache) + fresh_row * kind.head_dim * 2;
      auto* here = reinterpret_cast<std::byte*>(start.fresh[is_k ? 0 : 1]);
      mine.each([&](int component, float value) {
        store_kv_value<DType::kBF16>(here, component, value);
        store_kv_value<DType::kBF16>(cache, component, value);
      });
    }
  }
}

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

/// The softmax's weights of a part's positions in one column, by a warp: lane 4n + i has positions
/// 8n
/// + 2i and the next. RowMath::weigh(), bit for bit.
__device__ __forceinline__ void weigh_column(TokenAttention::Sums& sums,
                                             int column,
                                             int slices,
                                             bool first_seen,
                                             bool second_seen,
                                             PairState& state) {
  constexpr int kColumns = TokenAttention::Config::kColumns;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  float2 scores = {0.0F, 0.0F};
#pragma unroll 4
  for (int slice = 0; slice < slices; ++slice) {
    const float* from = sums.scores[slice] + lane * 2 * kColumns + column;
    scores.x = __fadd_rn(scores.x, from[0]);
    scores.y = __fadd_rn(scores.y, from[kColumns]);
  }
  if (!first_seen) scores.x = -INFINITY;
  if (!second_seen) scores.y = -INFINITY;
  const float largest = warp_max(fmaxf(scores.x, scores.y));
  float2 weights = {weight_of(scores.x, largest), weight_of(scores.y, largest)};
  const uint32_t high = split_off(weights);
  const uint32_t low = pack_bf16(weights.x, weights.y);
  float of_tile =
      __fadd_rn(__fadd_rn(__uint_as_float(high << 16), __uint_as_float(low << 16)),
                __fadd_rn(__uint_as_float(high & 0xffff0000u), __uint_as_float(low & 0xffff0000u)));
  of_tile = __fadd_rn(of_tile, __shfl_xor_sync(kAllLanes, of_tile, 1));
  of_tile = __fadd_rn(of_tile, __shfl_xor_sync(kAllLanes, of_tile, 2));
  float sum = 0.0F;
#pragma unroll
  for (int n = 0; n < 8; ++n) sum = __fadd_rn(sum, __shfl_sync(kAllLanes, of_tile, n * 4));
  const JoinFactors factors = join(state, largest, sum);
  sums.high[column][lane % 4 * 8 + lane / 4] = high;
  sums.low[column][lane % 4 * 8 + lane / 4] = low;
  if (lane == 0) sums.factors[column] = {factors.old, factors.any ? factors.now : -1.0F};
}

/// The token's heads of one KV head over the CTA's positions, into partial results. All workers,
/// TokenKvSlots::rings of them to a slice of the components, each with its share of the slice's
/// four tiles; `layer`'s products are there.
__device__ __forceinline__ void attend_part(const OneTokenArgs& args,
                                            const TokenTables& tables,
                                            const OneTokenLayer& layer,
                                            const TokenRotation& rotation,
                                            uint32_t number,
                                            TokenRings& rings,
                                            TokenRing& ring,
                                            uint8_t* scratch) {
  using Config = TokenAttention::Config;
  TokenAttention& room = *reinterpret_cast<TokenAttention*>(scratch);
  const TokenTask& task = tables.tasks[layer.kind];
  const OneTokenKind& kind = args.kinds[layer.kind];
  const int heads = task.rows.group;
  const TokenKvSlots slots(kind.head_dim);
  const int tiles = 4 / slots.rings;  // of 16 positions, and of 16 components, of a warp
  const int warp = token_warp();
  const int lane = thread_now() % kWarp;
  const int slice = warp / slots.rings;
  const int first_ring = slice * slots.rings;  // of the slice
  const int first_tile = (warp - first_ring) * tiles;
  const int columns = task.piece.early >= 0 ? 2 * heads : heads;
  const int fresh_at = task.fresh - task.first_part * kPart;  // among the CTA's positions
  const int32_t* kv_rows = tables.kv_rows.of[layer.kind];
  const int64_t fresh_row = task.fresh < 0    ? 0
                            : kind.window > 0 ? kv_rows[fresh_at]
                                              : kv_rows[fresh_at / 16] + fresh_at % 16;
  if (lane == 0) rings.at[warp] = ring.at();
  sync_workers();  // nobody reads x any more
  prepare_heads(args, layer, task, rotation, fresh_row, number, room.start);
  sync_workers();
  RowProducts<Config, 1> products(heads, slice);
  products.take_q(room.start, task.piece.early >= 0);
  const uint4 fresh_unit =
      load_shared(room.start.fresh[lane / 8 % 2] + slice * kKvSliceBytes + lane % 8 * 16);
  sync_workers();

  const TokenPartials out(args, kind);
  const int first_head = task.kv_head * heads;
  const int late = task.piece.late - task.first_piece;
  float acc[2][1][4] = {};  // of the warp's tiles
  PairState state;          // of column `warp`, if it is one
#pragma unroll 1
  for (int part = 0; part < task.parts; ++part) {
    const int lane = thread_now() % kWarp;
    const auto slot_of = [&](int side, int half) {
      const int from = first_ring + slots.ring(side, half);
      const int before = ring_after(rings.at[from], slots.nth(side));
      return wait_for_slot(rings, from, before);
    };
    if (task.fresh >= 0 && fresh_at / kPart == part) {
      // K and V of the token's own position go where what was copied is not yet of it: each warp
      // has the slots of its ring.
#pragma unroll 1
      for (int side = 0; side < 2; ++side) {
        const int half = fresh_at % kPart / kRowsOfSlot;
        if (warp != first_ring + slots.ring(side, half)) continue;
        const uint8_t* slot = slot_of(side, half);
        if (lane / 8 == side)
          *reinterpret_cast<uint4*>(const_cast<uint8_t*>(slot) +
                                    kv_place(fresh_at % kRowsOfSlot, lane % 8)) = fresh_unit;
      }
      show_to_copies();  // threads wrote there, copies of weights come next
      sync_group(warp / kChunks);
    }
    const uint8_t* keys = slot_of(0, first_tile / 2);
#pragma unroll 1
    for (int t = 0; t < tiles; ++t) {
      const int tile = first_tile + t;
      float sums[1][4] = {};
      products.multiply_keys<false>(
          [&](int, int row, int unit) { return keys + kv_place(tile % 2 * 16 + row, unit); }, sums);
      float* to =
          room.sums.scores[slice] + (tile * 16 + lane / 4) * Config::kColumns + lane % 4 * 2;
      *reinterpret_cast<float2*>(to) = float2{sums[0][0], sums[0][1]};
      *reinterpret_cast<float2*>(to + 8 * Config::kColumns) = float2{sums[0][2], sums[0][3]};
    }
    sync_workers();
    if (warp < columns) {
      const bool early = warp >= heads;
      const int position = (early ? task.piece.early : task.first_part + part) * kPart + lane * 2;
      const auto seen = [&](int at) {
        return at >= task.rows.first_seen && at <= task.rows.last_seen;
      };
      weigh_column(room.sums, warp, kind.head_dim / Config::kSlice, seen(position),
                   seen(position + 1), state);
    }
    sync_workers();
    const auto weights_of = [&](int n) {
      const int at = lane % 4 * 8 + n * 2;
      const auto high = *reinterpret_cast<const uint2*>(room.sums.high[lane / 4] + at);
      const auto low = *reinterpret_cast<const uint2*>(room.sums.low[lane / 4] + at);
      return RowWeights{{high.x, high.y}, {low.x, low.y}};
    };
    JoinFactors factors[2];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const float2 of = room.sums.factors[lane % 4 * 2 + i];
      factors[i] = {of.x, of.y, of.y >= 0.0F};
    }
    const uint8_t* values[] = {slot_of(1, 0), slot_of(1, 1)};
#pragma unroll
    for (int t = 0; t < 2; ++t) {
      if (t >= tiles) break;
      float sums[1][4] = {};
      products.multiply_values<false>(
          [&](int n, int row, int unit) {
            return values[n / 2] + kv_place(n % 2 * 16 + row, (first_tile + t) * 2 + unit);
          },
          weights_of, sums);
#pragma unroll
      for (int i = 0; i < 4; ++i) join(acc[t][0][i], sums[0][i], factors[i % 2]);
    }
    const auto give = [&] {
      sync_group(warp / kChunks);  // all of the slice have read
#pragma unroll 1
      for (int n = 0; n < 4 / slots.rings; ++n) ring.release();
      if (lane == 0) rings.at[warp] = ring.at();
      sync_group(warp / kChunks);
    };
    if ((part + 1) % task.parts_a_piece != 0 && part + 1 < task.parts) {
      give();
      continue;
    }
    const auto piece_of = [&](int column) {
      return column >= columns ? -1 : column >= heads ? 0 : late + part / task.parts_a_piece;
    };
    const auto head_of = [&](int column) {
      return first_head + (column >= heads ? column - heads : column);
    };
    if (warp < columns && lane == 0) {
      uint2* to = out.state(head_of(warp), piece_of(warp));
      tell(to, state.max, number);
      tell(to + 1, state.sum, number);
    }
    state = {};
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int column = lane % 4 * 2 + i;
      const int piece = piece_of(column);
      if (piece < 0) continue;
      uint2* to = out.value(head_of(column), piece) + slice * Config::kSlice + lane / 4;
#pragma unroll
      for (int t = 0; t < 2; ++t) {
        if (t >= tiles) break;
        tell(to + (first_tile + t) * 16, acc[t][0][i], number);
        tell(to + (first_tile + t) * 16 + 8, acc[t][0][i + 2], number);
      }
    }
#pragma unroll
    for (auto& tile : acc) tile[0][0] = tile[0][1] = tile[0][2] = tile[0][3] = 0.0F;
    give();
  }
}

/// Pieces that are joined at a time, and the halves of a CTA that join 32 components of a head
/// each.
inline constexpr int kJoined = kWarp;
inline constexpr int kJoiners = 2;
struct TokenJoin {
  float values[kJoiners][kJoined][kWarp];
};
static_assert(sizeof(TokenJoin) <= kTokenScratch);

/// Joins all CTAs' partial results. All workers: half of a CTA's warps look for the pieces of 32
/// components of a head, the first of them joins them.
__device__ __forceinline__ void join_token(const OneTokenArgs& args,
                                           const TokenTables& tables,
                                           const OneTokenLayer& layer,
                                           uint32_t number,
                                           uint8_t* scratch) {
  constexpr int kWarps = kTokenWorkers / kJoiners;
  constexpr int kEach = kJoined / kWarps;
  const OneTokenKind& kind = args.kinds[layer.kind];
  const TokenTask& task = tables.tasks[layer.kind];
  const TokenPartials from(args, kind);
  const int units_bits = kind.head_dim == 512 ? 4 : 3;  // units of 32 components in a head: 2^…
  const int lane = thread_now() % kWarp;
  const int joiner = token_warp() / kWarps;
  const int warp = token_warp() % kWarps;
  const bool spans = task.parts_a_piece == 1;  // of kSpanParts pieces
  auto& values = reinterpret_cast<TokenJoin*>(scratch)->values[joiner];
  const auto grid = static_cast<int>(gridDim.x);
#pragma unroll 1
  for (int first = static_cast<int>(blockIdx.x); first < kind.q_heads << units_bits;
       first += kJoiners * grid) {
    const int unit = first + joiner * grid;
    const bool any = unit < kind.q_heads << units_bits;
    const int head = unit >> units_bits;
    const int component = (unit - (head << units_bits)) * kWarp + lane;
    float carried = -INFINITY;
    JoinedValue joined;
    // Pieces of the first span that the pair does not see have negative numbers.
#pragma unroll 1
    for (int base = spans ? -(task.first_piece % kSpanParts) : 0; base < task.pieces;
         base += kJoined) {
      const auto there = [&](int piece) { return min(max(base + piece, 0), task.pieces - 1); };
      PairState mine;
      sync_workers();  // nobody reads there any more
      if (any) {
        hear<kEach>(
            number, [&](int i) { return from.value(head, there(warp * kEach + i)) + component; },
            [&](int i, uint32_t value) {
              values[warp * kEach + i][lane] = __uint_as_float(value);
            });
      }
      if (any && warp == 0) {
        const uint2* state = from.state(head, there(lane));
        hear<2>(
            number, [&](int i) { return state + i; },
            [&](int i, uint32_t value) {
              (i == 0 ? mine.max : mine.sum) = __uint_as_float(value);
            });
      }
      sync_workers();
      if (!any || warp != 0) continue;
      const int end = min(task.pieces - base, kJoined);
      if (base + lane < 0 || lane >= end) mine = {};
      if (spans) {
        const LaneFactors f = find_factors<kSpanParts>(mine, carried);
#pragma unroll 4
        for (int at = 0; at < kJoined; ++at) {
          if (at % 4 == 0 && at >= end) break;
          joined.add(values[at][lane], f, at, at % 4 == 3);
        }
      } else {
        const LaneFactors f = find_factors<1>(mine, carried);
#pragma unroll 1
        for (int at = 0; at < end; ++at) joined.add(values[at][lane], f, at, true);
      }
    }
    if (!any || warp != 0) continue;
    const float value = joined.result();
    const float next = __shfl_down_sync(kAllLanes, value, 1);
    if (lane % 2 == 0)
      tell(args.rooms.attended + (head * kind.head_dim + component) / 2, pack_bf16(value, next),
           number);
  }
}

}  // namespace facet::cuda
