#pragma once

// One tile of attention: 16 kWarpsM (row, query head) pairs that share a KV head, over parts of 64
// positions.

#include "kernels/cuda/attention.h"
#include "kernels/cuda/mma.cuh"
#include "kernels/cuda/paged_kv.cuh"

namespace facet::cuda {

/// How blocks of a tile kernel are made. Pairs are (row, query head), row-major.
template <int kHeadDim, int kWarpsM, int kWarpsN>
struct TileConfig {
  static constexpr int kD = kHeadDim;
  static constexpr int kM = kWarpsM;  // warps over pairs, 16 each
  static constexpr int kN = kWarpsN;  // warps that share 16 pairs: each has a share of the part's
                                      // positions, then of the components
  static constexpr int kPairs = 16 * kM;
  static constexpr int kThreads = kM * kN * kWarp;
  static constexpr int kKeyTiles = kPart / 8 / kN;  // of 8 positions, of one warp
  static constexpr int kColTiles = kD / 8 / kN;     // of 8 components, of one warp
  static_assert(kKeyTiles % 2 == 0 && kColTiles % 2 == 0);

  // Row strides in elements: 16 bytes more than the row, so that eight rows stand in other banks.
  static constexpr int kStrideQ = kD + 8;     // float
  static constexpr int kStrideKv = kD + 8;    // BF16
  static constexpr int kStrideP = kPart + 8;  // BF16

  struct Shared {
    alignas(16) uint16_t k[kPart * kStrideKv];
    alignas(16) uint16_t v[kPart * kStrideKv];
    alignas(16) float q[kPairs * kStrideQ];
    alignas(16) uint16_t p_high[kPairs * kStrideP];
    alignas(16) uint16_t p_low[kPairs * kStrideP];
    float maxima[kPairs][kN];
    float sums[kPairs][kPart / 8];
  };
};

/// What a pair has gathered; the weighted values are in its warps' registers.
struct PairState {
  float max = -INFINITY;
  float sum = 0.0F;
};

/// How a part joins what came before it: old values times `old`, the part's times `now`. Sets the
/// state to both.
struct JoinFactors {
  float old = 1.0F;
  float now = 0.0F;
  bool any = false;  // the part holds a position that the pair sees
};
__device__ inline JoinFactors join(PairState& state, float part_max, float part_sum) {
  JoinFactors factors;
  if (part_max == -INFINITY) return factors;
  const float larger = fmaxf(state.max, part_max);
  factors.any = true;
  factors.old = state.max == -INFINITY ? 0.0F : expf(state.max - larger);
  factors.now = expf(part_max - larger);
  state.max = larger;
  state.sum = fmaf(state.sum, factors.old, __fmul_rn(part_sum, factors.now));
  return factors;
}
__device__ inline void join(float& value, float part, const JoinFactors& factors) {
  if (factors.any) value = fmaf(value, factors.old, __fmul_rn(part, factors.now));
}

__device__ inline void load_matrices(uint32_t (&r)[4], const uint16_t* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row)));
}
__device__ inline void load_matrices_transposed(uint32_t (&r)[4], const uint16_t* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row)));
}

/// Takes the BF16 of two values out of them; what is left is exact.
__device__ inline uint32_t split_off(float2& pair) {
  const uint32_t packed = pack_bf16(pair.x, pair.y);
  pair.x -= __uint_as_float(packed << 16);
  pair.y -= __uint_as_float(packed & 0xffff0000u);
  return packed;
}

/// The rows of one tile and what they see.
struct TileRows {
  int64_t first_row = 0;
  int32_t tokens = 0;  // rows of the tile
  int32_t group = 1;   // query heads of a KV head
  int32_t kv_head = 0;
  int32_t first_seen = 0;  // by any of the rows
  int32_t last_seen = 0;

  __device__ int first_part() const { return first_seen / kPart; }
  __device__ int last_part() const { return last_seen / kPart; }
};

__device__ inline TileRows tile_rows(
    const AttentionArgs& args, const RowRun& run, int64_t tile, int32_t tokens, int32_t kv_head) {
  TileRows rows;
  rows.first_row = run.first_row + tile * tokens;
  const int64_t left = run.rows - tile * tokens;
  rows.tokens = static_cast<int32_t>(left < tokens ? left : tokens);
  rows.group = args.q_heads / args.kv.kv_heads;
  rows.kv_head = kv_head;
  const int32_t position = args.kv.positions[rows.first_row];
  rows.first_seen = args.window > 0 ? max(0, position - args.window + 1) : 0;
  rows.last_seen = args.kv.positions[rows.first_row + rows.tokens - 1];
  return rows;
}

/// The work of one block on one tile.
template <typename Config>
class Tile {
 public:
  static constexpr int kColTiles = Config::kColTiles;

  __device__ Tile(const AttentionArgs& args, const TileRows& rows, typename Config::Shared& shared)
      : args_(args),
        rows_(rows),
        shared_(shared),
        table_(table_of_row(args.kv, rows.first_row)),
        lane_(threadIdx.x % kWarp),
        warp_m_(threadIdx.x / kWarp / Config::kN),
        warp_n_(threadIdx.x / kWarp % Config::kN) {
    for (int h = 0; h < 2; ++h) {
      const int token = pair(h) / rows.group;
      last_[h] = token < rows.tokens ? args.kv.positions[rows.first_row + token] : -1;
      first_[h] = args.window > 0 ? max(0, last_[h] - args.window + 1) : 0;
    }
  }

  /// This lane's pairs: h = 0, 1.
  __device__ int pair(int h) const { return warp_m_ * 16 + lane_ / 4 + 8 * h; }
  __device__ bool is_row(int h) const { return last_[h] >= 0; }
  __device__ int64_t row(int h) const { return rows_.first_row + pair(h) / rows_.group; }
  __device__ int head(int h) const { return rows_.kv_head * rows_.group + pair(h) % rows_.group; }
  /// The first of the two components that this lane has of column tile n.
  __device__ int column(int n) const {
    return (warp_n_ * Config::kColTiles + n) * 8 + lane_ % 4 * 2;
  }
  __device__ bool first_of_pair() const { return warp_n_ == 0 && lane_ % 4 == 0; }

  __device__ void load_q() const {
    constexpr int kPerRow = Config::kD / 4;
    for (int i = threadIdx.x; i < Config::kPairs * kPerRow; i += Config::kThreads) {
      const int m = i / kPerRow;
      const int token = m / rows_.group;
      const int head = rows_.kv_head * rows_.group + m % rows_.group;
      float4 q = {0.0F, 0.0F, 0.0F, 0.0F};
      if (token < rows_.tokens) {
        const int64_t at = ((rows_.first_row + token) * args_.q_heads + head) * Config::kD;
        q = reinterpret_cast<const float4*>(args_.q + at)[i % kPerRow];
      }
      *reinterpret_cast<float4*>(shared_.q + m * Config::kStrideQ + i % kPerRow * 4) = q;
    }
  }
  /// Starts the copies of a part's keys (or values); zeros stand where no row of the tile sees. To
  /// be committed by the caller.
  __device__ void load(uint16_t* to, const std::byte* from, int part) const {
    constexpr int kPerRow = Config::kD / 8;  // copies of 16 bytes
    for (int i = threadIdx.x; i < kPart * kPerRow; i += Config::kThreads) {
      const int position = part * kPart + i / kPerRow;
      const bool seen = position >= rows_.first_seen && position <= rows_.last_seen;
      const int64_t place = seen ? kv_place(args_.kv, table_, rows_.kv_head, position) : 0;
      copy_async(shared_address(to + i / kPerRow * Config::kStrideKv + i % kPerRow * 8),
                 reinterpret_cast<const uint16_t*>(from) + place + i % kPerRow * 8, seen);
    }
  }

  /// Scores of this warp's share of the part, and their maxima into shared memory.
  __device__ void score(int part) {
    for (auto& tile : scores_) tile[0] = tile[1] = tile[2] = tile[3] = 0.0F;
    const float* q = shared_.q + pair(0) * Config::kStrideQ + lane_ % 4 * 2;
    const uint16_t* k =
        shared_.k +
        (warp_n_ * Config::kKeyTiles * 8 + lane_ / 16 * 8 + lane_ % 8) * Config::kStrideKv +
        lane_ / 8 % 2 * 8;
    // Tensor cores cut sums off rather than round them: few are added there, the rest in float32.
    for (int chunk = 0; chunk < Config::kD; chunk += kChunk) {
      float sums[Config::kKeyTiles][4] = {};
#pragma unroll 2
      for (int d = chunk; d < chunk + kChunk; d += 16) add_scores(sums, q, k, d);
#pragma unroll
      for (int n = 0; n < Config::kKeyTiles; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) scores_[n][i] += sums[n][i];
      }
    }
    mask(part);
  }

  /// After all warps have scored: the part's weights, as two BF16 terms, into shared memory.
  __device__ void weigh() {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      float largest = shared_.maxima[pair(h)][0];
#pragma unroll
      for (int n = 1; n < Config::kN; ++n) largest = fmaxf(largest, shared_.maxima[pair(h)][n]);
      part_max_[h] = largest;
#pragma unroll
      for (int n = 0; n < Config::kKeyTiles; ++n) weigh(h, n, largest);
    }
  }

  /// After all warps have weighed: joins the part to `acc`, whose states are `states`.
  __device__ void gather(float (&acc)[kColTiles][4], PairState (&states)[2]) {
    JoinFactors factors[2];
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      float sum = 0.0F;
#pragma unroll
      for (int n = 0; n < kPart / 8; ++n) sum += shared_.sums[pair(h)][n];
      factors[h] = join(states[h], part_max_[h], sum);
    }
    constexpr int kSteps = kPart / 16;
    uint32_t high[kSteps][4];
    uint32_t low[kSteps][4];
    const int at = (warp_m_ * 16 + lane_ % 16) * Config::kStrideP + lane_ / 16 * 8;
#pragma unroll
    for (int s = 0; s < kSteps; ++s) {
      load_matrices(high[s], shared_.p_high + at + s * 16);
      load_matrices(low[s], shared_.p_low + at + s * 16);
    }
    const uint16_t* v = shared_.v + lane_ % 16 * Config::kStrideKv + lane_ / 16 * 8 +
                        warp_n_ * Config::kColTiles * 8;
#pragma unroll
    for (int n = 0; n < kColTiles; n += 2) {
      float sums[2][4] = {};
#pragma unroll
      for (int s = 0; s < kSteps; ++s) {
        uint32_t b[4];
        load_matrices_transposed(b, v + s * 16 * Config::kStrideKv + n * 8);
        mma(sums[0], high[s][0], high[s][1], high[s][2], high[s][3], b[0], b[1]);
        mma(sums[1], high[s][0], high[s][1], high[s][2], high[s][3], b[2], b[3]);
        mma(sums[0], low[s][0], low[s][1], low[s][2], low[s][3], b[0], b[1]);
        mma(sums[1], low[s][0], low[s][1], low[s][2], low[s][3], b[2], b[3]);
      }
#pragma unroll
      for (int i = 0; i < 8; ++i)
        join(acc[n + i / 4][i % 4], sums[i / 4][i % 4], factors[i / 2 % 2]);
    }
  }

 private:
  static constexpr int kChunk = 64;  // components

  /// Products of the 16 components from d on, added to `sums`.
  static __device__ void add_scores(float (&sums)[Config::kKeyTiles][4],
                                    const float* q,
                                    const uint16_t* k,
                                    int d) {
    float2 rest[4] = {*reinterpret_cast<const float2*>(q + d),
                      *reinterpret_cast<const float2*>(q + d + 8 * Config::kStrideQ),
                      *reinterpret_cast<const float2*>(q + d + 8),
                      *reinterpret_cast<const float2*>(q + d + 8 * Config::kStrideQ + 8)};
    uint32_t terms[3][4];
#pragma unroll
    for (auto& term : terms) {
#pragma unroll
      for (int r = 0; r < 4; ++r) term[r] = split_off(rest[r]);
    }
#pragma unroll
    for (int n = 0; n < Config::kKeyTiles; n += 2) {
      uint32_t b[4];
      load_matrices(b, k + n * 8 * Config::kStrideKv + d);
#pragma unroll
      for (const auto& a : terms) {
        mma(sums[n], a[0], a[1], a[2], a[3], b[0], b[1]);
        mma(sums[n + 1], a[0], a[1], a[2], a[3], b[2], b[3]);
      }
    }
  }

  __device__ void mask(int part) {
    const int first = part * kPart + warp_n_ * Config::kKeyTiles * 8 + lane_ % 4 * 2;
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      float largest = -INFINITY;
#pragma unroll
      for (int n = 0; n < Config::kKeyTiles; ++n) {
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          const int position = first + n * 8 + i;
          float& score = scores_[n][2 * h + i];
          if (position < first_[h] || position > last_[h]) score = -INFINITY;
          largest = fmaxf(largest, score);
        }
      }
      largest = fmaxf(largest, __shfl_xor_sync(kAllLanes, largest, 1));
      largest = fmaxf(largest, __shfl_xor_sync(kAllLanes, largest, 2));
      if (lane_ % 4 == 0) shared_.maxima[pair(h)][warp_n_] = largest;
    }
  }

  /// Weights of pair h and 8 positions. Their sum is that of what is multiplied.
  __device__ void weigh(int h, int n, float largest) {
    float2 weights = {0.0F, 0.0F};
    if (scores_[n][2 * h] != -INFINITY) weights.x = expf(scores_[n][2 * h] - largest);
    if (scores_[n][2 * h + 1] != -INFINITY) weights.y = expf(scores_[n][2 * h + 1] - largest);
    const uint32_t high = split_off(weights);
    const uint32_t low = pack_bf16(weights.x, weights.y);
    float sum = __uint_as_float(high << 16) + __uint_as_float(low << 16) +
                (__uint_as_float(high & 0xffff0000u) + __uint_as_float(low & 0xffff0000u));
    sum += __shfl_xor_sync(kAllLanes, sum, 1);
    sum += __shfl_xor_sync(kAllLanes, sum, 2);
    const int tile = warp_n_ * Config::kKeyTiles + n;
    const int at = pair(h) * Config::kStrideP + tile * 8 + lane_ % 4 * 2;
    *reinterpret_cast<uint32_t*>(shared_.p_high + at) = high;
    *reinterpret_cast<uint32_t*>(shared_.p_low + at) = low;
    if (lane_ % 4 == 0) shared_.sums[pair(h)][tile] = sum;
  }

  const AttentionArgs& args_;
  const TileRows& rows_;
  typename Config::Shared& shared_;
  const int32_t* table_;
  int lane_;
  int warp_m_;
  int warp_n_;
  int first_[2];  // positions that the lane's pairs see; last is -1 for one that is no row
  int last_[2];
  float scores_[Config::kKeyTiles][4];
  float part_max_[2];
};

}  // namespace facet::cuda
