#pragma once

// Attention of single rows, decode's: what a block does with one piece of a row's positions.
//
// A warp has 64 components: of q, as fragments in registers; of K and V in a ring of its own in
// shared memory, which it alone fills and reads. Per part of 64 positions the warps' products over
// their components are added up in order (the one thing they tell each other), each finds the
// softmax's weights by itself, in the places where they enter the product with V, and sums up its
// components of the result. K and V are the left operand of the products, so that eight columns
// are enough for the query heads of a KV head.
//
//   ring     [warps][stages][64 positions][64 components], 16 bytes a unit, units of a row in an
//            order that follows from the row: eight rows' units then stand in other banks
//
// A window's positions are dealt out on a ring: block b of n has the pieces whose number is b
// modulo n. The one block that has two pieces, the window's first and its last, has them side by
// side, for a position of the one is none of the other: columns of their own, no time of its own.

#include "kernels/cuda/attention_ring.cuh"
#include "kernels/cuda/head.cuh"
#include "kernels/cuda/steps.cuh"

namespace facet::cuda {

/// A column's weights of 16 positions, in the places of a lane: 2i and 2i + 1 of either half.
struct RowWeights {
  uint32_t high[2];
  uint32_t low[2];
};

/// Products of a part of 64 positions with q, which stays in registers as its three terms, and with
/// weights: by a warp, over a slice of 64 components, kTiles tiles of 16 positions of the keys and
/// as many of 16 components of the values.
template <typename Config, int kTiles>
class RowProducts {
 public:
  using Sums = float[kTiles][4];  // of a tile: rows g, g + 8, columns 2i, 2i + 1

  __device__ RowProducts(int heads, int slice)
      : heads_(heads), slice_(slice), lane_(threadIdx.x % kWarp) {}

  /// Takes q, [heads, Config::kStrideQ]: of each head once, or twice in columns of their own.
  __device__ void take_q(const float (*of)[Config::kStrideQ], bool twice) {
    const int column = lane_ / 4;
    const bool used = column < (twice ? 2 * heads_ : heads_);
    const float* q = of[column % heads_] + slice_ * Config::kSlice;
#pragma unroll
    for (int s = 0; s < kSteps; ++s) {
      float2 left = {0.0F, 0.0F};
      float2 right = left;
      if (used && Config::kFp8) {  // the order in which words of four codes decode
        const float4 all = *reinterpret_cast<const float4*>(q + s * 16 + lane_ % 4 * 4);
        left = {all.x, all.z};
        right = {all.y, all.w};
      } else if (used) {
        left = *reinterpret_cast<const float2*>(q + s * 16 + lane_ % 4 * 2);
        right = *reinterpret_cast<const float2*>(q + s * 16 + 8 + lane_ % 4 * 2);
      }
#pragma unroll
      for (auto& term : q_[s]) {
        term[0] = split_off(left);
        term[1] = split_off(right);
      }
    }
  }
  /// sums += keys · q, over the slice. keys_at(n, r, u): unit u of row r of the n-th tile of 16
  /// positions; r may be beyond 15. Returns whether NaN was met and, unless kNan, not heeded.
  template <bool kNan, typename Keys>
  __device__ bool multiply_keys(const Keys& keys_at, Sums& sums) const {
    uint32_t largest = 0;
    const int low_row = lane_ / 8 % 2 * 8 + lane_ % 8;
    constexpr int kAtOnce = Config::kFp8 ? 2 : 1;  // steps of one load
#pragma unroll
    for (int s = 0; s < kSteps; s += kAtOnce) {
      uint32_t keys[kAtOnce][kTiles][4];
#pragma unroll
      for (int m = 0; m < kTiles; ++m) {
        const int unit = Config::kFp8 ? s + lane_ / 16 : 2 * s + lane_ / 16;
        uint32_t words[4];
        load_matrices(words, keys_at(m, low_row, unit));
        if constexpr (Config::kFp8) {
          uint32_t even[4];
          uint32_t odd[4];
          decode<kNan>(words, even, odd, largest);
#pragma unroll
          for (int i = 0; i < 2; ++i) {
            keys[i][m][0] = even[2 * i], keys[i][m][1] = even[2 * i + 1];
            keys[i][m][2] = odd[2 * i], keys[i][m][3] = odd[2 * i + 1];
          }
        } else {
#pragma unroll
          for (int i = 0; i < 4; ++i) keys[0][m][i] = words[i];
        }
      }
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) {
#pragma unroll
        for (const auto& term : q_[s + i]) {
#pragma unroll
          for (int m = 0; m < kTiles; ++m) {
            const uint32_t(&a)[4] = keys[i][m];
            mma(sums[m], a[0], a[1], a[2], a[3], term[0], term[1]);
          }
        }
      }
    }
    return Config::kFp8 && !kNan && met_nan(largest);
  }

  /// sums += values · weights. values_at(n, r, u): as keys_at, units of the n-th 16 positions.
  /// weights_of(n): of those. Returns as multiply_keys.
  template <bool kNan, typename Values, typename Weights>
  __device__ bool multiply_values(const Values& values_at,
                                  const Weights& weights_of,
                                  Sums& sums) const {
    uint32_t largest = 0;
    constexpr int kAtOnce = Config::kFp8 ? 2 : 1;  // steps of one load
#pragma unroll
    for (int s = 0; s < kPart / 16; s += kAtOnce)
      add_values<kNan>(
          s, [&](int r, int u) { return values_at(s, r, u); }, weights_of, sums, largest);
    return Config::kFp8 && !kNan && met_nan(largest);
  }
  /// The same of the s-th 16 positions (FP8: 32). values_at(r, u): of those.
  template <bool kNan, typename Values, typename Weights>
  __device__ void add_values(int s,
                             const Values& values_at,
                             const Weights& weights_of,
                             Sums& sums,
                             uint32_t& largest) const {
#pragma unroll
    for (int m = 0; m < kTiles; ++m) {
      uint32_t words[4];
      if constexpr (Config::kFp8) {
        load_matrices_transposed(words, values_at(lane_, m));
        uint32_t even[4];
        uint32_t odd[4];
        decode<kNan>(words, even, odd, largest);
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          const RowWeights of = weights_of(s + i);
          mma(sums[m], even[2 * i], odd[2 * i], even[2 * i + 1], odd[2 * i + 1], of.high[0],
              of.high[1]);
          mma(sums[m], even[2 * i], odd[2 * i], even[2 * i + 1], odd[2 * i + 1], of.low[0],
              of.low[1]);
        }
      } else {
        load_matrices_transposed(words,
                                 values_at(lane_ / 16 * 8 + lane_ % 8, 2 * m + lane_ / 8 % 2));
        const RowWeights of = weights_of(s);
        mma(sums[m], words[0], words[1], words[2], words[3], of.high[0], of.high[1]);
        mma(sums[m], words[0], words[1], words[2], words[3], of.low[0], of.low[1]);
      }
    }
  }

 protected:
  const int heads_;
  const int slice_;
  const int lane_;

 private:
  static constexpr int kSteps = Config::kSlice / 16;

  /// Words of codes as BF16. `largest` gathers their magnitudes; unless kNan, NaN becomes a number.
  template <bool kNan>
  __device__ static void decode(const uint32_t (&words)[4],
                                uint32_t (&even)[4],
                                uint32_t (&odd)[4],
                                uint32_t& largest) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      Fp8Steps::decode(words[i], even[i], odd[i]);
      largest = __vimax3_u16x2(largest, words[i] & 0x7f007f00u, words[i] << 8 & 0x7f007f00u);
    }
    if constexpr (kNan) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const uint32_t nan = (words[i] & 0x7f7f7f7fu) + 0x01010101u;  // 0x7f alone carries
        even[i] |= (nan & 0x00800080u) * 0xffu;                       // 0x7f80 in a half
        odd[i] |= (nan >> 8 & 0x00800080u) * 0xffu;
      }
    }
  }
  /// Whether any lane of the warp met NaN. So rare that what was computed is then computed again.
  __device__ static bool met_nan(uint32_t largest) {
    return __any_sync(kAllLanes, largest >> 16 == 0x7f00u || (largest & 0xffffu) == 0x7f00u);
  }

  // ldmatrix takes 16-bit units.
  __device__ static void load_matrices(uint32_t (&r)[4], const uint8_t* row) {
    cuda::load_matrices(r, reinterpret_cast<const uint16_t*>(row));
  }
  __device__ static void load_matrices_transposed(uint32_t (&r)[4], const uint8_t* row) {
    cuda::load_matrices_transposed(r, reinterpret_cast<const uint16_t*>(row));
  }

  uint32_t q_[kSteps][3][2];
};

/// What a warp computes with one part, whose slice it alone has.
template <typename Config>
class RowMath : public RowProducts<Config, 4> {
  using Products = RowProducts<Config, 4>;
  using Products::heads_;
  using Products::lane_;
  using Products::slice_;

 public:
  using typename Products::Sums;

  __device__ RowMath(typename Config::Scores& scores, int heads, float k_scale)
      : Products(heads, static_cast<int>(threadIdx.x) / kWarp),
        scores_(scores),
        k_scale_(k_scale) {}

  /// The component, within its warp's, of row h (0: g, 1: g + 8) of the acc's m-th fragment.
  __device__ int component(int m, int h) const {
    return Config::kFp8 ? m * 16 + lane_ / 4 * 2 + h : m * 16 + h * 8 + lane_ / 4;
  }
  /// The part's products over this warp's components, into shared memory. keys(n, r, u): unit u of
  /// row r of the part's n-th 16 positions; r may be beyond 15.
  template <typename Keys>
  __device__ void score(const Keys& keys) const {
    Sums sums = {};
    if (this->template multiply_keys<false>(keys, sums)) {
#pragma unroll
      for (auto& tile : sums) tile[0] = tile[1] = tile[2] = tile[3] = 0.0F;
      this->template multiply_keys<true>(keys, sums);
    }
    float* to = scores_.sums[slice_] + lane_ / 4 * Config::kColumns + lane_ % 4 * 2;
#pragma unroll
    for (int m = 0; m < 4; ++m) {
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        *reinterpret_cast<float2*>(to + (m * 16 + h * 8) * Config::kColumns) =
            float2{sums[m][2 * h], sums[m][2 * h + 1]};
      }
    }
  }
  /// The part's scores from those of all warps, a few of them a thread. sees(early, r): whether the
  /// pair sees row r of the part, or of the early one.
  template <typename Sees>
  __device__ void gather_scores(const Sees& sees) const {
    constexpr int kEach = kPart * Config::kColumns / Config::kThreads;
    static_assert(Config::kColumns % kEach == 0);
    const int at = threadIdx.x * kEach;
    float total[kEach] = {};
#pragma unroll
    for (int w = 0; w < Config::kWarps; ++w) {
#pragma unroll
      for (int i = 0; i < kEach; ++i) total[i] += scores_.sums[w][at + i];
    }
    const int row = at / Config::kColumns;
    const bool late_seen = sees(false, row);
    const bool early_seen = sees(true, row);
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      const int column = at % Config::kColumns + i;
      if (Config::kFp8) total[i] = __fmul_rn(total[i], k_scale_);
      if (!(column < heads_ ? late_seen : early_seen)) total[i] = -INFINITY;
      scores_.all[at + row / 4 * 8 + i] = total[i];
    }
  }

  /// The weights of this lane's column, g, as two BF16 terms: tile n of 8 positions, of which the
  /// lane has 2i and 2i + 1. Their sum, that of what is multiplied, joins the column's state.
  __device__ JoinFactors weigh(PairState& state, uint32_t (&high)[8], uint32_t (&low)[8]) const {
    float2 scores[8];
    float largest = -INFINITY;
#pragma unroll
    for (int n = 0; n < 8; ++n) {
      const int row = n * 8 + lane_ % 4 * 2;
      const float* from = scores_.all + row * Config::kColumns + row / 4 * 8 + lane_ / 4;
      scores[n] = {from[0], from[Config::kColumns]};
      largest = fmaxf(largest, fmaxf(scores[n].x, scores[n].y));
    }
    largest = fmaxf(largest, __shfl_xor_sync(kAllLanes, largest, 1));
    largest = fmaxf(largest, __shfl_xor_sync(kAllLanes, largest, 2));
    float sum = 0.0F;
#pragma unroll
    for (int n = 0; n < 8; ++n) {
      float2 weights = {weight_of(scores[n].x, largest), weight_of(scores[n].y, largest)};
      high[n] = split_off(weights);
      low[n] = pack_bf16(weights.x, weights.y);
      float of_tile =
          __uint_as_float(high[n] << 16) + __uint_as_float(low[n] << 16) +
          (__uint_as_float(high[n] & 0xffff0000u) + __uint_as_float(low[n] & 0xffff0000u));
      of_tile += __shfl_xor_sync(kAllLanes, of_tile, 1);
      of_tile += __shfl_xor_sync(kAllLanes, of_tile, 2);
      sum += of_tile;
    }
    return join(state, largest, sum);
  }

  /// Joins the weighted values of the part to `acc`. values: as keys of score().
  template <typename Values>
  __device__ void add_values(const Values& values,
                             Sums& acc,
                             const JoinFactors& mine,
                             const uint32_t (&high)[8],
                             const uint32_t (&low)[8]) const {
    JoinFactors factors[2];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int from = (lane_ % 4 * 2 + i) * 4;  // a lane of column 2i or 2i + 1
      factors[i].old = __shfl_sync(kAllLanes, mine.old, from);
      factors[i].now = __shfl_sync(kAllLanes, mine.any ? mine.now : -1.0F, from);
      factors[i].any = factors[i].now >= 0.0F;
    }
    const auto weights_of = [&](int n) {
      return RowWeights{{high[2 * n], high[2 * n + 1]}, {low[2 * n], low[2 * n + 1]}};
    };
    Sums sums = {};
    if (this->template multiply_values<false>(values, weights_of, sums)) {
#pragma unroll
      for (auto& tile : sums) tile[0] = tile[1] = tile[2] = tile[3] = 0.0F;
      this->template multiply_values<true>(values, weights_of, sums);
    }
#pragma unroll
    for (int m = 0; m < 4; ++m) {
#pragma unroll
      for (int i = 0; i < 4; ++i) join(acc[m][i], sums[m][i], factors[i % 2]);
    }
  }

 private:
  typename Config::Scores& scores_;
  const float k_scale_;
};

/// A block's walk over the parts of its piece.
template <typename Config, int kParts>
class RowWalk {
 public:
  using Shared = typename Config::Shared;
  using Sums = typename RowMath<Config>::Sums;

  /// `fresh`: the row's own position if its K and V are not yet in the cache, else -1.
  __device__ RowWalk(const AttentionArgs& args,
                     const TileRows& rows,
                     const RowPiece& piece,
                     int heads,
                     int fresh,
                     Shared& shared)
      : ring_(args, rows, piece, fresh, shared),
        math_(shared.scores, heads, args.kv.k_scale),
        piece_(piece),
        shared_(shared) {}

  /// Starts the first copies.
  __device__ void begin() { ring_.begin(); }
  /// Takes q, and K and V of the fresh position, out of shared.start.
  __device__ void take_start() {
    ring_.take_fresh(shared_.start);
    math_.take_q(shared_.start.q, piece_.early >= 0);
  }

  /// All parts: into `acc`, and this lane's column's state, those of a piece, with which
  /// after(piece) is then called. All threads of the block.
  template <typename After>
  __device__ void run(Sums& acc, PairState& state, const After& after) {
    for (int tile = ring_.first_tile(0); tile < ring_.tiles();) {
      math_.score(in_ring(ring_.take()));
      ring_.give();
      __syncthreads();
      math_.gather_scores([&](bool early, int row) {
        return ring_.sees(ring_.part_begin(early ? piece_.early : piece_.late, tile) + row);
      });
      __syncthreads();
      uint32_t high[8];
      uint32_t low[8];
      const JoinFactors factors = math_.weigh(state, high, low);
      math_.add_values(in_ring(ring_.take()), acc, factors, high, low);
      ring_.give();
      const int piece = tile / kParts;
      tile = ring_.first_tile(tile + 1);
      if (tile / kParts != piece || tile >= ring_.tiles()) after(piece);
    }
  }

  /// RowMath's.
  __device__ int component(int m, int h) const { return math_.component(m, h); }

 private:
  __device__ static auto in_ring(const uint8_t* stage) {
    return [stage](int n, int row, int unit) {
      return stage + RowRing<Config, kParts>::place(n * 16 + row, unit);
    };
  }

  RowRing<Config, kParts> ring_;
  RowMath<Config> math_;
  const RowPiece piece_;
  Shared& shared_;
};

}  // namespace facet::cuda
