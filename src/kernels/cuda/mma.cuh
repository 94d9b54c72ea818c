#pragma once

// Tensor-core products of one warp. Lane l is (g, i) = (l / 4, l % 4).

#include <cstdint>

namespace facet::cuda {

/// d += a · b, BF16 products summed in float32.
/// a [16, 16]: a[0] = (g, 2i), a[1] = (g + 8, 2i), a[2] = (g, 2i + 8), a[3] = (g + 8, 2i + 8), and
/// the column after each. b [16, 8]: b[0] = (2i, g), b[1] = (2i + 8, g), and the row after each.
/// d [16, 8]: d[0], d[1] = (g, 2i), (g, 2i + 1); d[2], d[3] the same of row g + 8.
__device__ inline void mma_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

/// Two floats rounded to BF16, `low` in the low half.
__device__ inline uint32_t pack_bf16(float low, float high) {
  uint32_t packed;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
  return packed;
}

}  // namespace facet::cuda
