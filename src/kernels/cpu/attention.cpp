// softmax(q · kᵀ) · v of a few queries over one part of the positions, for every instruction set.
//
// A score is one vector accumulator along D. The sums over positions take them in ascending order.
// Nothing a query gets depends on the other queries of the call: they only share the decoded keys
// and values.

#include "kernels/cpu/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/attention.cpp"
#include <algorithm>
#include <cstring>
#include <hwy/foreach_target.h>  // compiles this file once per target; must precede highway.h
#include <hwy/highway.h>
#include <limits>

#include "kernels/cpu/decode-inl.h"
#include "kernels/cpu/kernel_table.h"
#include "kernels/cpu/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace facet::cpu::HWY_NAMESPACE {
namespace {

constexpr int64_t kTile = kAttentionTile;
constexpr int32_t kTileKeys = 4;

/// The parts of AttendArgs::scratch. Rows of D floats are padded with zeros to whole vectors.
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

/// Where K or V of one position lies, in elements.
int64_t element_of(const AttendArgs& args, int64_t position) {
  const KvLayout& layout = args.kv->layout;
  const int64_t page = to_index(args.pages[static_cast<size_t>(position / layout.page_size)]);
  const int64_t slot = int64_t{args.kv_head} * layout.page_size + position % layout.page_size;
  return page * page_elements(layout) + slot * layout.head_dim;
}

/// out[0 .. n) = the stored values times `factor`; n a multiple of kLanes.
template <DType T>
void decode_vectors(const uint8_t* p, V factor, int64_t n, float* out) {
  int64_t d = 0;
  if constexpr (T == DType::kF8E4M3) {
    for (; d + kChunk <= n; d += kChunk) {
      const Chunk chunk = load_fp8_chunk(p + d);
#pragma GCC unroll 4
      for (int64_t i = 0; i < 4; ++i) store(hn::Mul(chunk.v[i], factor), out + d + i * kLanes);
    }
    for (; d < n; d += kLanes) store(hn::Mul(load_fp8(p + d), factor), out + d);
  } else if constexpr (T == DType::kBF16) {
    for (; d < n; d += kLanes) store(hn::Mul(load_bf16(p + 2 * d), factor), out + d);
  } else {
    for (; d < n; d += kLanes) store(hn::Mul(load_f32(p + 4 * d), factor), out + d);
  }
}

void decode_vectors(DType dtype, const uint8_t* p, V factor, int64_t n, float* out) {
  if (dtype == DType::kF8E4M3) return decode_vectors<DType::kF8E4M3>(p, factor, n, out);
  if (dtype == DType::kBF16) return decode_vectors<DType::kBF16>(p, factor, n, out);
  decode_vectors<DType::kF32>(p, factor, n, out);
}

/// out[0 .. stride) = the stored values times scale, and zeros.
void decode_position(
    const AttendArgs& args, const std::byte* base, float scale, int64_t position, float* out) {
  const KvLayout& layout = args.kv->layout;
  const int64_t size = bits_of(layout.dtype) / 8;
  const uint8_t* p = bytes_of(base) + element_of(args, position) * size;
  const V factor = set(layout.dtype == DType::kF8E4M3 ? scale * kFp8Factor : scale);
  const int64_t whole = layout.head_dim / kLanes * kLanes;
  decode_vectors(layout.dtype, p, factor, whole, out);
  if (whole == layout.head_dim) return;
  HWY_ALIGN uint8_t rest[kLanes * 4] = {};
  std::memcpy(rest, p + whole * size, static_cast<size_t>((layout.head_dim - whole) * size));
  decode_vectors(layout.dtype, rest, factor, kLanes, out + whole);
}

/// scores[n][k] = q[n] · tile[k], n < N, k < kTileKeys. q, tile: rows of `stride`.
template <int N>
void score_tile(const float* q, const float* tile, int64_t stride, float* scores) {
  V acc[N][kTileKeys];
#pragma GCC unroll 8
  for (int n = 0; n < N; ++n) {
#pragma GCC unroll 8
    for (int32_t k = 0; k < kTileKeys; ++k) acc[n][k] = zero();
  }
  for (int64_t d = 0; d < stride; d += kLanes) {
    V qv[N];
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n) qv[n] = load(q + n * stride + d);
#pragma GCC unroll 8
    for (int32_t k = 0; k < kTileKeys; ++k) {
      const V kv = load(tile + k * stride + d);
#pragma GCC unroll 8
      for (int n = 0; n < N; ++n) acc[n][k] = hn::MulAdd(qv[n], kv, acc[n][k]);
    }
  }
#pragma GCC unroll 8
  for (int n = 0; n < N; ++n) {
#pragma GCC unroll 8
    for (int32_t k = 0; k < kTileKeys; ++k) scores[n * kAttentionPart + k] = sum_of(acc[n][k]);
  }
}

struct Range {
  int64_t begin = std::numeric_limits<int64_t>::max();
  int64_t end = 0;
};

/// What all queries see together.
Range seen(const AttendArgs& args) {
  Range all;
  for (const AttendQuery& query : args.queries) {
    if (query.begin >= query.end) continue;
    all.begin = std::min(all.begin, query.begin);
    all.end = std::max(all.end, query.end);
  }
  return all;
}

/// Scores of all queries for the positions of `all`, at scratch.scores[query][position - origin].
/// Some are of positions that a query does not see; nothing reads them.
void score(const AttendArgs& args, const Scratch& scratch, Range all, int64_t origin) {
  const auto count = static_cast<int64_t>(args.queries.size());
  for (int64_t first = all.begin / kTile * kTile; first < all.end; first += kTile) {
    for (int64_t i = 0; i < kTile; ++i) {
      const int64_t position = std::clamp(first + i, all.begin, all.end - 1);
      decode_position(args, args.kv->k, args.kv->k_scale, position,
                      scratch.tile + i * scratch.stride);
    }
    for (int64_t key = 0; key < kTile; key += kTileKeys) {
      const float* tile = scratch.tile + key * scratch.stride;
      float* scores = scratch.scores + (first + key - origin);
      int64_t n = 0;
      for (; n + 2 <= count; n += 2) {
        score_tile<2>(scratch.q + n * scratch.stride, tile, scratch.stride,
                      scores + n * kAttentionPart);
      }
      if (n < count) {
        score_tile<1>(scratch.q + n * scratch.stride, tile, scratch.stride,
                      scores + n * kAttentionPart);
      }
    }
  }
}

/// acc[d] += sum of weights[k] * tile[k][d] over the keys [begin, end), for NV vectors from acc on.
template <int NV>
void add_values(const float* weights,
                const float* tile,
                int64_t stride,
                int64_t begin,
                int64_t end,
                float* acc) {
  V sum[NV];
#pragma GCC unroll 8
  for (int i = 0; i < NV; ++i) sum[i] = load(acc + i * kLanes);
  for (int64_t k = begin; k < end; ++k) {
    const V weight = set(weights[k]);
#pragma GCC unroll 8
    for (int i = 0; i < NV; ++i) {
      sum[i] = hn::MulAdd(weight, load(tile + k * stride + i * kLanes), sum[i]);
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < NV; ++i) store(sum[i], acc + i * kLanes);
}

void add_weighted_values(const AttendArgs& args,
                         const Scratch& scratch,
                         Range all,
                         int64_t origin) {
  constexpr int64_t kWide = 8 * kLanes;
  const int64_t stride = scratch.stride;
  for (int64_t first = all.begin / kTile * kTile; first < all.end; first += kTile) {
    const int64_t from = std::max(first, all.begin);
    const int64_t to = std::min(first + kTile, all.end);
    for (int64_t position = from; position < to; ++position) {
      decode_position(args, args.kv->v, args.kv->v_scale, position,
                      scratch.tile + (position - first) * stride);
    }
    for (size_t n = 0; n < args.queries.size(); ++n) {
      const AttendQuery& query = args.queries[n];
      const int64_t begin = std::max(query.begin, first) - first;
      const int64_t end = std::min(query.end, first + kTile) - first;
      if (begin >= end) continue;
      const auto index = static_cast<int64_t>(n);
      const float* weights = scratch.scores + index * kAttentionPart + (first - origin);
      float* acc = scratch.acc + index * stride;
      int64_t d = 0;
      for (; d + kWide <= stride; d += kWide) {
        add_values<8>(weights, scratch.tile + d, stride, begin, end, acc + d);
      }
      for (; d < stride; d += kLanes) {
        add_values<1>(weights, scratch.tile + d, stride, begin, end, acc + d);
      }
    }
  }
}

void attend(const AttendArgs& args) {
  const int64_t head_dim = args.kv->layout.head_dim;
  const Scratch scratch(args.scratch, head_dim);
  const Range all = seen(args);
  if (all.begin >= all.end) return;
  const int64_t origin = all.begin / kAttentionPart * kAttentionPart;

  const auto bytes = static_cast<size_t>(head_dim) * sizeof(float);
  for (size_t n = 0; n < args.queries.size(); ++n) {
    float* q = scratch.q + static_cast<int64_t>(n) * scratch.stride;
    std::memcpy(q, args.queries[n].q, bytes);
    std::fill(q + head_dim, q + scratch.stride, 0.0F);
  }
  score(args, scratch, all, origin);
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
  add_weighted_values(args, scratch, all, origin);
  for (size_t n = 0; n < args.queries.size(); ++n) {
    const AttendQuery& query = args.queries[n];
    if (query.begin >= query.end) continue;
    std::memcpy(query.acc, scratch.acc + static_cast<int64_t>(n) * scratch.stride, bytes);
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
