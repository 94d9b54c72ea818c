// softmax(q · kᵀ) · v of a few queries over one part of the positions, for every instruction set.
//
// A score is one vector accumulator along D, times the scale of the cache; the sums over positions
// take them in ascending order and meet the scale at the end. Nothing a query gets depends on the
// other queries of the call: they only share the decoded keys and values. Few queries decode them
// in registers, as they read; for more, each tile of positions becomes floats in a small array.
//
// The short loops over queries, keys and vectors are unrolled by pragma: only then are their arrays
// registers.

#include "kernels/cpu/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/attention.cpp"
#include <algorithm>
#include <cstring>
#include <hwy/foreach_target.h>  // compiles this file once per target; must precede highway.h
#include <hwy/highway.h>

#include "kernels/cpu/attention_tiles.h"
#include "kernels/cpu/decode-inl.h"
#include "kernels/cpu/kernel_table.h"
#include "kernels/cpu/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace facet::cpu::HWY_NAMESPACE {
namespace {

constexpr int64_t kTile = kAttentionTile;
constexpr int kKeys = 4;          // whose scores are made together
constexpr int kValueVectors = 4;  // of a value, that are added together
static_assert(kTile % kKeys == 0);
/// Queries that share a key or value in a register. Their sums must fit the registers.
#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_NEON
constexpr int kTogether = 4;
#else
constexpr int kTogether = 2;
#endif

/// The parts of AttendArgs::scratch. TileRows of D floats are padded with zeros to whole vectors.
struct Scratch {
  Scratch(float* base, int64_t head_dim)
      : stride(round_up(head_dim, kLanes)),
        q(base),
        acc(q + kMaxQueries * stride),
        tile(acc + kMaxQueries * stride),
        scores(tile + kTile * stride) {}

  int64_t stride;
  float* q;       // [kMaxQueries, stride]
  float* acc;     // [kMaxQueries, stride]
  float* tile;    // [kTile, stride]
  float* scores;  // [kMaxQueries, kAttentionPart]
};

/// Where stored keys and values become floats: as they are read, or once for all queries.
enum class Decoding { kInRegisters, kInTile };

/// Elements [i, i + kLanes) of a row, without the scale of the cache.
template <DType T>
HWY_INLINE V load_values(const uint8_t* row, int64_t i) {
  if constexpr (T == DType::kF8E4M3) {
    return load_fp8(row + i);
  } else if constexpr (T == DType::kBF16) {
    return load_bf16(row + 2 * i);
  } else {
    return load_f32(row + 4 * i);
  }
}

/// What is left to be multiplied after load_values.
float factor_of(const AttendArgs& args, float scale) {
  return args.kv->layout.dtype == DType::kF8E4M3 ? scale * kFp8Factor : scale;
}

/// scores[n][k] = q[n] · row[k] * factor, n < N, k < kKeys. q: rows of `stride`.
template <DType T, int N>
void score_keys(
    const float* q, int64_t stride, const uint8_t* const* rows, float factor, float* scores) {
  V acc[N][kKeys];
#pragma GCC unroll 8
  for (int n = 0; n < N; ++n) {
#pragma GCC unroll 8
    for (int k = 0; k < kKeys; ++k) acc[n][k] = zero();
  }
  for (int64_t d = 0; d < stride; d += kLanes) {
    V qv[N];
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n) qv[n] = load(q + n * stride + d);
#pragma GCC unroll 8
    for (int k = 0; k < kKeys; ++k) {
      const V key = load_values<T>(rows[k], d);
#pragma GCC unroll 8
      for (int n = 0; n < N; ++n) acc[n][k] = hn::MulAdd(qv[n], key, acc[n][k]);
    }
  }
  const float factors[kKeys] = {factor, factor, factor, factor};
#pragma GCC unroll 8
  for (int n = 0; n < N; ++n) sums_of(acc[n], factors, scores + n * kAttentionPart);
}

/// scores[n][i] of all queries and the tile's positions.
template <DType T>
void score_tile(
    const Scratch& scratch, int64_t queries, const TileRows& rows, float factor, float* scores) {
  const int64_t stride = scratch.stride;
  for (int64_t key = 0; key < kTile; key += kKeys) {
    const uint8_t* const* keys = rows.at + key;
    int64_t n = 0;
    for (; n + kTogether <= queries; n += kTogether) {
      score_keys<T, kTogether>(scratch.q + n * stride, stride, keys, factor,
                               scores + n * kAttentionPart + key);
    }
    for (; n + 2 <= queries; n += 2) {
      score_keys<T, 2>(scratch.q + n * stride, stride, keys, factor,
                       scores + n * kAttentionPart + key);
    }
    if (n < queries) {
      score_keys<T, 1>(scratch.q + n * stride, stride, keys, factor,
                       scores + n * kAttentionPart + key);
    }
  }
}

/// acc[n][i] += sum of weights[n][k] * row[k][i] over the rows [begin, end), n < N, for the vectors
/// of columns from d on. acc: rows of `stride`; weights: rows of kAttentionPart.
template <DType T, int N, int Vectors>
void add_columns(const float* weights,
                 const TileRows& rows,
                 int64_t begin,
                 int64_t end,
                 int64_t d,
                 int64_t stride,
                 float* acc) {
  V sum[N][Vectors];
#pragma GCC unroll 8
  for (int n = 0; n < N; ++n) {
#pragma GCC unroll 8
    for (int i = 0; i < Vectors; ++i) sum[n][i] = load(acc + n * stride + d + i * kLanes);
  }
  for (int64_t k = begin; k < end; ++k) {
    V weight[N];
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n) weight[n] = set(weights[n * kAttentionPart + k]);
#pragma GCC unroll 8
    for (int i = 0; i < Vectors; ++i) {
      const V value = load_values<T>(rows.at[k], d + i * kLanes);
#pragma GCC unroll 8
      for (int n = 0; n < N; ++n) sum[n][i] = hn::MulAdd(weight[n], value, sum[n][i]);
    }
  }
#pragma GCC unroll 8
  for (int n = 0; n < N; ++n) {
#pragma GCC unroll 8
    for (int i = 0; i < Vectors; ++i) store(sum[n][i], acc + n * stride + d + i * kLanes);
  }
}

/// The same for all columns.
template <DType T, int N>
void add_values(const float* weights,
                const TileRows& rows,
                int64_t begin,
                int64_t end,
                int64_t stride,
                float* acc) {
  int64_t d = 0;
  for (; d + kValueVectors * kLanes <= stride; d += kValueVectors * kLanes) {
    add_columns<T, N, kValueVectors>(weights, rows, begin, end, d, stride, acc);
  }
  for (; d < stride; d += kLanes) {
    add_columns<T, N, 1>(weights, rows, begin, end, d, stride, acc);
  }
}

/// The rows as floats in `tile`, rows of round_up(head_dim, kLanes) floats with zeros at the end.
template <DType T>
TileRows decode(const TileRows& rows, int64_t head_dim, float* tile) {
  const int64_t stride = round_up(head_dim, kLanes);
  const int64_t whole = head_dim / kLanes * kLanes;
  constexpr int64_t kSize = T == DType::kF8E4M3 ? 1 : T == DType::kBF16 ? 2 : 4;
  TileRows decoded;
  for (int64_t k = 0; k < kTile; ++k) {
    float* out = tile + k * stride;
    for (int64_t d = 0; d < whole; d += kLanes) store(load_values<T>(rows.at[k], d), out + d);
    if (whole < head_dim) {
      HWY_ALIGN uint8_t rest[kLanes * kSize] = {};
      std::memcpy(rest, rows.at[k] + whole * kSize,
                  static_cast<size_t>((head_dim - whole) * kSize));
      store(load_values<T>(rest, 0), out + whole);
    }
    decoded.at[k] = reinterpret_cast<const uint8_t*>(out);
  }
  return decoded;
}

/// Scores of all queries, at scratch.scores[query][position - origin]. Some are of positions that a
/// query does not see; nothing reads them.
template <DType T>
void score(const AttendArgs& args,
           const Scratch& scratch,
           const AttentionTiles& tiles,
           int64_t origin,
           Decoding decoding) {
  const auto queries = static_cast<int64_t>(args.queries.size());
  const float factor = factor_of(args, args.kv->k_scale);
  for (int64_t t = 0; t < tiles.count(); ++t) {
    const TileRows rows = tiles.rows(t);
    float* scores = scratch.scores + (tiles.position(t) - origin);
    if (decoding == Decoding::kInRegisters) {
      score_tile<T>(scratch, queries, rows, factor, scores);
    } else {
      score_tile<DType::kF32>(scratch, queries,
                              decode<T>(rows, args.kv->layout.head_dim, scratch.tile), factor,
                              scores);
    }
  }
}

/// Adds the weighted values of one tile to every query's. Queries share a value as long as they see
/// the same part of the tile.
template <DType T>
void add_tile(const AttendArgs& args,
              const Scratch& scratch,
              const TileRows& rows,
              int64_t position,
              int64_t origin) {
  const auto visible = [&](size_t n) {
    const AttendQuery& query = args.queries[n];
    return PositionRange{std::max(query.begin, position) - position,
                         std::min(query.end, position + kTile) - position};
  };
  const size_t queries = args.queries.size();
  for (size_t n = 0; n < queries;) {
    const PositionRange seen = visible(n);
    size_t same = 1;
    while (n + same < queries && same < kTogether && visible(n + same) == seen) ++same;
    if (same == 3) same = 2;
    const float* weights =
        scratch.scores + static_cast<int64_t>(n) * kAttentionPart + (position - origin);
    float* acc = scratch.acc + static_cast<int64_t>(n) * scratch.stride;
    n += same;
    if (seen.begin >= seen.end) continue;
    if (same == 4) {
      add_values<T, kTogether>(weights, rows, seen.begin, seen.end, scratch.stride, acc);
    } else if (same == 2) {
      add_values<T, 2>(weights, rows, seen.begin, seen.end, scratch.stride, acc);
    } else {
      add_values<T, 1>(weights, rows, seen.begin, seen.end, scratch.stride, acc);
    }
  }
}

template <DType T>
void add_weighted_values(const AttendArgs& args,
                         const Scratch& scratch,
                         const AttentionTiles& tiles,
                         int64_t origin,
                         Decoding decoding) {
  for (int64_t t = 0; t < tiles.count(); ++t) {
    const TileRows rows = tiles.rows(tiles.count() + t);
    if (decoding == Decoding::kInRegisters) {
      add_tile<T>(args, scratch, rows, tiles.position(t), origin);
    } else {
      add_tile<DType::kF32>(args, scratch, decode<T>(rows, args.kv->layout.head_dim, scratch.tile),
                            tiles.position(t), origin);
    }
  }
}

template <DType T>
void attend_as(const AttendArgs& args) {
  const int64_t head_dim = args.kv->layout.head_dim;
  const Scratch scratch(args.scratch, head_dim);
  const PositionRange all = seen_by(args.queries);
  if (all.begin >= all.end) return;
  const int64_t origin = all.begin / kAttentionPart * kAttentionPart;
  const AttentionTiles tiles(args, all);
  const bool few = T == DType::kF32 || args.queries.size() <= size_t{kTogether};
  const auto decoding = few && head_dim % kLanes == 0 ? Decoding::kInRegisters : Decoding::kInTile;

  const auto bytes = static_cast<size_t>(head_dim) * sizeof(float);
  for (size_t n = 0; n < args.queries.size(); ++n) {
    float* q = scratch.q + static_cast<int64_t>(n) * scratch.stride;
    std::memcpy(q, args.queries[n].q, bytes);
    std::fill(q + head_dim, q + scratch.stride, 0.0F);
  }
  score<T>(args, scratch, tiles, origin, decoding);
  for (size_t n = 0; n < args.queries.size(); ++n) {
    AttendQuery& query = args.queries[n];
    if (query.begin >= query.end) continue;
    float* scores =
        scratch.scores + static_cast<int64_t>(n) * kAttentionPart + (query.begin - origin);
    query.max = max_of(scores, query.end - query.begin);
    query.sum = exp_and_sum(scores, query.max, query.end - query.begin);
  }
  std::fill(scratch.acc, scratch.acc + static_cast<int64_t>(args.queries.size()) * scratch.stride,
            0.0F);
  add_weighted_values<T>(args, scratch, tiles, origin, decoding);
  const V factor = set(factor_of(args, args.kv->v_scale));
  for (size_t n = 0; n < args.queries.size(); ++n) {
    const AttendQuery& query = args.queries[n];
    if (query.begin >= query.end) continue;
    float* acc = scratch.acc + static_cast<int64_t>(n) * scratch.stride;
    for (int64_t d = 0; d < scratch.stride; d += kLanes) {
      store(hn::Mul(load(acc + d), factor), acc + d);
    }
    std::memcpy(query.acc, acc, bytes);
  }
}

void attend(const AttendArgs& args) {
  switch (args.kv->layout.dtype) {
    case DType::kF8E4M3:
      return attend_as<DType::kF8E4M3>(args);
    case DType::kBF16:
      return attend_as<DType::kBF16>(args);
    default:
      return attend_as<DType::kF32>(args);
  }
}

void blend(float* out, float a, const float* x, float b, int64_t n) {
  const V av = set(a);
  const V bv = set(b);
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    store(hn::MulAdd(load(x + i), bv, hn::Mul(load(out + i), av)), out + i);
  }
  if (i == n) return;
  const V rest = hn::MulAdd(load_part(x + i, n - i), bv, hn::Mul(load_part(out + i, n - i), av));
  store_part(rest, out + i, n - i);
}

}  // namespace

void set_attention(KernelTable& table) {
  table.attend = attend;
  table.blend = blend;
}

}  // namespace facet::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace facet::cpu {

int64_t attend_scratch(int32_t head_dim) {
  constexpr int64_t kMostLanes = 16;
  const int64_t stride = (head_dim + kMostLanes - 1) / kMostLanes * kMostLanes;
  return (int64_t{2} * kMaxQueries + kAttentionTile) * stride + kMaxQueries * kAttentionPart;
}

void set_attention_kernels(Isa isa, KernelTable& table) {
  switch (isa) {
#if HWY_TARGETS & HWY_AVX2
    case Isa::kAvx2:
      return N_AVX2::set_attention(table);
    case Isa::kAvx512:
      return N_AVX3::set_attention(table);
#endif
    default:
      return HWY_STATIC_DISPATCH(set_attention)(table);
  }
}

}  // namespace facet::cpu
#endif
