#pragma once

// One tile of attention: 16 kWarpsM (row, query head) pairs that share a KV head, over parts of 64
// positions. What it is made of stands in attention_parts.cuh.

#include "kernels/cuda/attention_parts.cuh"

namespace facet::cuda {

/// What a kernel has of the tile's keys or values.
enum class Side { kKeys, kValues };

/// The work of one block on one tile.
template <typename Config>
class Tile {
 public:
  static constexpr int kColTiles = Config::kColTiles;
  using Sums = float[kColTiles][4];

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

  /// q of all pairs, which is ready in memory, into shared memory; zeros where there is none.
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
      if constexpr (Config::kSplit) {
        float2 left = {q.x, q.y};
        float2 right = {q.z, q.w};
        uint16_t* to = shared_.terms + m * Config::kStrideQ + i % kPerRow * 4;
#pragma unroll
        for (int t = 0; t < 3; ++t) {
          *reinterpret_cast<uint2*>(to + t * Config::kPairs * Config::kStrideQ) = {
              split_off(left), split_off(right)};
        }
      } else {
        *reinterpret_cast<float4*>(shared_.q + m * Config::kStrideQ + i % kPerRow * 4) = q;
      }
    }
  }

  /// Starts the copies of a part's keys or values; zeros stand where no row of the tile sees. To be
  /// committed by the caller.
  template <Side kSide>
  __device__ void load(int part) const {
    const Share share;
    // One lane of those that copy a row finds where it lies: the number of the row in the cache.
    const int lane_pass = lane_ % kRowLanes;
    const int position = part * kPart + share.row(lane_pass);
    int mine = kUnseen;
    if (lane_pass < Share::kPasses && position >= rows_.first_seen && position <= rows_.last_seen) {
      mine = kv_row(args_.kv, table_, rows_.kv_head, position);
    }
    const std::byte* from = (kSide == Side::kKeys ? args_.kv.k : args_.kv.v) + share.unit * 16;
    const uint32_t to = shared_address(landing<kSide>(share.row(0), share.unit));
    constexpr uint32_t kPitch = Config::kFp8 ? Config::kD : Config::kStrideKv * 2;
#pragma unroll
    for (int pass = 0; pass < Share::kPasses; ++pass) {
      const int row = __shfl_sync(kAllLanes, mine, lane_ / kRowLanes * kRowLanes + pass);
      copy_async(to + pass * Share::kRows * kPitch,
                 from + int64_t{max(row, 0)} * (Config::kD * Config::kBytes), row >= 0);
    }
  }
  /// After this thread's copies have arrived, and before others read them: FP8 becomes BF16.
  template <Side kSide>
  __device__ void settle() const {
    if constexpr (Config::kFp8) {
      const Share share;
#pragma unroll
      for (int pass = 0; pass < Share::kPasses; ++pass) {
        const int row = share.row(pass);
        const uint4 raw = load_shared(landing<kSide>(row, share.unit));
        const uint32_t words[4] = {raw.x, raw.y, raw.z, raw.w};
        uint32_t out[8];
#pragma unroll
        for (int i = 0; i < 8; ++i) out[i] = e4m3_pair_to_bf16<false>(words[i / 2] >> i % 2 * 16);
        if (any_e4m3_nan(raw.x) || any_e4m3_nan(raw.y) || any_e4m3_nan(raw.z) ||
            any_e4m3_nan(raw.w)) {
#pragma unroll
          for (int i = 0; i < 8; ++i) out[i] = e4m3_pair_to_bf16<true>(words[i / 2] >> i % 2 * 16);
        }
        auto* to = reinterpret_cast<uint4*>(shared_.k + row * Config::kStrideKv + share.unit * 16);
        to[0] = {out[0], out[1], out[2], out[3]};
        to[1] = {out[4], out[5], out[6], out[7]};
      }
    }
  }

  /// Scores of this warp's share of the part, and their maxima into shared memory.
  __device__ void score(int part) {
    for (auto& tile : scores_) tile[0] = tile[1] = tile[2] = tile[3] = 0.0F;
    // Tensor cores cut sums off rather than round them: few are added there, the rest in float32.
    // Several chunks are under way at once where a warp has few positions, and products of one sum
    // stand apart: each waits for the one before.
    constexpr int kAtOnce = Config::kKeyTiles <= 2 ? 4 : 1;
    for (int first = 0; first < Config::kD; first += kAtOnce * kChunk) {
      float sums[kAtOnce][Config::kKeyTiles][4] = {};
#pragma unroll
      for (int d = 0; d < kChunk; d += 16) {
        uint32_t terms[kAtOnce][3][4];
        uint32_t keys[kAtOnce][Config::kKeyTiles / 2][4];
#pragma unroll
        for (int c = 0; c < kAtOnce; ++c) {
          load_terms(terms[c], first + c * kChunk + d);
          load_keys(keys[c], first + c * kChunk + d);
        }
#pragma unroll
        for (int t = 0; t < 3; ++t) {
#pragma unroll
          for (int c = 0; c < kAtOnce; ++c) {
            const uint32_t(&a)[4] = terms[c][t];
#pragma unroll
            for (int n = 0; n < Config::kKeyTiles; ++n) {
              mma(sums[c][n], a[0], a[1], a[2], a[3], keys[c][n / 2][n % 2 * 2],
                  keys[c][n / 2][n % 2 * 2 + 1]);
            }
          }
        }
      }
#pragma unroll
      for (int c = 0; c < kAtOnce; ++c) {
#pragma unroll
        for (int n = 0; n < Config::kKeyTiles; ++n) {
#pragma unroll
          for (int i = 0; i < 4; ++i) scores_[n][i] += sums[c][n][i];
        }
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
  __device__ void gather(Sums& acc, PairState (&states)[2]) {
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
    const uint16_t* v = (Config::kFp8 ? shared_.k : shared_.v) + lane_ % 16 * Config::kStrideKv +
                        lane_ / 16 * 8 + warp_n_ * Config::kColTiles * 8;
    constexpr int kAtOnce = Config::kM == 1 ? 8 : 4;
#pragma unroll
    for (int first = 0; first < kColTiles; first += kAtOnce) {
      float sums[kAtOnce][4] = {};
#pragma unroll
      for (int s = 0; s < kSteps; ++s) {
        uint32_t b[kAtOnce / 2][4];
#pragma unroll
        for (int n = 0; n < kAtOnce; n += 2)
          load_matrices_transposed(b[n / 2], v + s * 16 * Config::kStrideKv + (first + n) * 8);
#pragma unroll
        for (int n = 0; n < kAtOnce; ++n) {
          mma(sums[n], high[s][0], high[s][1], high[s][2], high[s][3], b[n / 2][n % 2 * 2],
              b[n / 2][n % 2 * 2 + 1]);
        }
#pragma unroll
        for (int n = 0; n < kAtOnce; ++n) {
          mma(sums[n], low[s][0], low[s][1], low[s][2], low[s][3], b[n / 2][n % 2 * 2],
              b[n / 2][n % 2 * 2 + 1]);
        }
      }
#pragma unroll
      for (int i = 0; i < kAtOnce * 4; ++i)
        join(acc[first + i / 4][i % 4], sums[i / 4][i % 4], factors[i / 2 % 2]);
    }
  }

  /// Walks parts [first, last], of which load() has begun the first's keys, then its values, each
  /// committed; calls body(part) with the next part's copies under way once a part is scored, and
  /// after(part) once it is gathered into `acc`.
  template <typename After>
  __device__ void walk(int first, int last, Sums& acc, PairState (&states)[2], const After& after) {
    for (int part = first; part <= last; ++part) {
      copy_wait<1>();  // the keys are there
      settle<Side::kKeys>();
      __syncthreads();
      if (Config::kFp8 && part < last) load<Side::kKeys>(part + 1);
      if (Config::kFp8) copy_commit();
      score(part);
      __syncthreads();
      if (!Config::kFp8 && part < last) load<Side::kKeys>(part + 1);
      if (!Config::kFp8) copy_commit();
      weigh();
      copy_wait<1>();  // the values are there
      settle<Side::kValues>();
      __syncthreads();
      if (Config::kFp8 && part < last) load<Side::kValues>(part + 1);
      if (Config::kFp8) copy_commit();
      gather(acc, states);
      after(part);
      __syncthreads();
      if (!Config::kFp8 && part < last) load<Side::kValues>(part + 1);
      if (!Config::kFp8) copy_commit();
    }
  }

 private:
  static constexpr int kUnseen = -1;
  static constexpr int kChunk = 64;                                // components
  static constexpr int kUnits = Config::kD * Config::kBytes / 16;  // copies of a row
  static constexpr int kRowLanes = kUnits < kWarp ? kUnits : kWarp;

  /// What a thread copies of a part: one unit of every kRows'th row.
  struct Share {
    static constexpr int kRows = Config::kThreads / kUnits;
    static constexpr int kPasses = kPart / kRows;
    static_assert(Config::kThreads % kUnits == 0 && kPart % kRows == 0 && kPasses <= kRowLanes);
    int unit = threadIdx.x % kUnits;
    __device__ int row(int pass) const {
      return static_cast<int>(threadIdx.x) / kUnits + pass * kRows;
    }
  };
  template <Side kSide>
  __device__ uint8_t* landing(int row, int unit) const {
    if constexpr (Config::kFp8)
      return (kSide == Side::kKeys ? shared_.raw_k : shared_.raw_v) + row * Config::kD + unit * 16;
    return reinterpret_cast<uint8_t*>((kSide == Side::kKeys ? shared_.k : shared_.v) +
                                      row * Config::kStrideKv + unit * 8);
  }

  /// Components d … d + 15 of this warp's pairs, as three terms.
  __device__ void load_terms(uint32_t (&terms)[3][4], int d) const {
    if constexpr (Config::kSplit) {
      const uint16_t* q =
          shared_.terms + (warp_m_ * 16 + lane_ % 16) * Config::kStrideQ + lane_ / 16 * 8 + d;
#pragma unroll
      for (int t = 0; t < 3; ++t)
        load_matrices(terms[t], q + t * Config::kPairs * Config::kStrideQ);
    } else {
      const float* q = shared_.q + pair(0) * Config::kStrideQ + lane_ % 4 * 2 + d;
      float2 rest[4] = {*reinterpret_cast<const float2*>(q),
                        *reinterpret_cast<const float2*>(q + 8 * Config::kStrideQ),
                        *reinterpret_cast<const float2*>(q + 8),
                        *reinterpret_cast<const float2*>(q + 8 * Config::kStrideQ + 8)};
#pragma unroll
      for (auto& term : terms) {
#pragma unroll
        for (int r = 0; r < 4; ++r) term[r] = split_off(rest[r]);
      }
    }
  }
  /// The same of its share of the part's keys.
  __device__ void load_keys(uint32_t (&keys)[Config::kKeyTiles / 2][4], int d) const {
    const uint16_t* k =
        shared_.k +
        (warp_n_ * Config::kKeyTiles * 8 + lane_ / 16 * 8 + lane_ % 8) * Config::kStrideKv +
        lane_ / 8 % 2 * 8 + d;
#pragma unroll
    for (int n = 0; n < Config::kKeyTiles; n += 2)
      load_matrices(keys[n / 2], k + n * 8 * Config::kStrideKv);
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
          if (Config::kFp8) score = __fmul_rn(score, args_.kv.k_scale);
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
    float2 weights = {weight_of(scores_[n][2 * h], largest),
                      weight_of(scores_[n][2 * h + 1], largest)};
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

/// What a pair's values are multiplied by at the end, less the division by the sum.
template <typename Config>
__device__ float out_factor(const AttentionArgs& args) {
  return Config::kFp8 ? args.kv.v_scale : 1.0F;
}

}  // namespace facet::cuda
