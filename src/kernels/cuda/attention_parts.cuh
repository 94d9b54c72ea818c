#pragma once

// What a tile of attention is made of: how its block is cut, how parts join, the instructions it
// needs, and which rows it has.

#include "kernels/cuda/attention.h"
#include "kernels/cuda/mma.cuh"
#include "kernels/cuda/paged_kv.cuh"

namespace facet::cuda {

/// How blocks of a tile kernel are made. Pairs are (row, query head), row-major.
template <DType kKvType, int kHeadDim, int kWarpsM, int kWarpsN, bool kSplitQ>
struct TileConfig {
  static constexpr DType kType = kKvType;
  static constexpr bool kFp8 = kKvType == DType::kF8E4M3;
  static constexpr int kD = kHeadDim;
  static constexpr int kM = kWarpsM;  // warps over pairs, 16 each
  static constexpr int kN = kWarpsN;  // warps that share 16 pairs: each has a share of the part's
                                      // positions, then of the components
  static constexpr bool kSplit = kSplitQ;  // q stands in shared memory as its three terms
  static constexpr int kPairs = 16 * kM;
  static constexpr int kThreads = kM * kN * kWarp;
  static constexpr int kKeyTiles = kPart / 8 / kN;  // of 8 positions, of one warp
  static constexpr int kColTiles = kD / 8 / kN;     // of 8 components, of one warp
  static_assert(kKeyTiles % 2 == 0 && kColTiles % 2 == 0);

  // Row strides in elements: 16 bytes more than the row, so that eight rows stand in other banks.
  static constexpr int kStrideQ = kD + 8;      // float, or BF16 terms
  static constexpr int kStrideKv = kD + 8;     // BF16
  static constexpr int kStrideP = kPart + 8;   // BF16
  static constexpr int kBytes = kFp8 ? 1 : 2;  // of a cached value
  static constexpr int kRawBytes = kFp8 ? kPart * kD : 16;

  struct Shared {
    alignas(16) uint16_t k[kPart * kStrideKv];
    // FP8: k is where either is decoded to, one after the other, from raw_k and raw_v.
    alignas(16) uint16_t v[kFp8 ? 8 : kPart * kStrideKv];
    alignas(16) uint8_t raw_k[kRawBytes];
    alignas(16) uint8_t raw_v[kRawBytes];
    alignas(16) float q[kSplit ? 4 : kPairs * kStrideQ];
    alignas(16) uint16_t terms[kSplit ? 3 * kPairs * kStrideQ : 8];
    alignas(16) uint16_t p_high[kPairs * kStrideP];
    alignas(16) uint16_t p_low[kPairs * kStrideP];
    float maxima[kPairs][kN];
    float sums[kPairs][kPart / 8];
  };
};

/// exp(score - largest) without a branch, so that many are under way at once; 0 where the score is
/// that of a position nobody sees, even if all are.
__device__ inline float weight_of(float score, float largest) {
  return expf(score - (largest == -INFINITY ? 0.0F : largest));
}

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
  const float larger = fmaxf(state.max, part_max);
  factors.any = part_max != -INFINITY;
  factors.old = weight_of(state.max, larger);
  factors.now = weight_of(part_max, larger);
  state.max = larger;
  const float sum = fmaf(state.sum, factors.old, __fmul_rn(part_sum, factors.now));
  state.sum = factors.any ? sum : state.sum;
  return factors;
}
__device__ inline void join(float& value, float part, const JoinFactors& factors) {
  const float joined = fmaf(value, factors.old, __fmul_rn(part, factors.now));
  value = factors.any ? joined : value;
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

/// Bytes 0 and 1 of `word`, E4M3, as two BF16: moved to a BF16's exponent and mantissa they are the
/// value times 2^-120, subnormals included; the product with 2^120 is exact. NaN becomes a number
/// unless kNan.
template <bool kNan>
__device__ inline uint32_t e4m3_pair_to_bf16(uint32_t word) {
  const uint32_t apart = __byte_perm(word, 0, 0x4140);
  const uint32_t value =
      multiply_bf16(((apart << 4) & 0x07f007f0u) | ((apart << 8) & 0x80008000u), 0x7b807b80u);
  if constexpr (!kNan) return value;
  const uint32_t nan = ((apart & 0x007f007fu) + 0x00010001u) & 0x00800080u;  // 0x7f alone carries
  return value | nan * 0xffu;                                                // 0x7f80 in a half
}

/// Whether a byte of `word` is NaN in E4M3.
__device__ inline bool any_e4m3_nan(uint32_t word) {
  return (((word & 0x7f7f7f7fu) + 0x01010101u) & 0x80808080u) != 0;
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

}  // namespace facet::cuda
