#pragma once

// How the CTAs of few_tokens tell each other results: in words of 8 bytes, a value and the number
// of the layer that it is of, counted on from step to step. Whoever needs a value reads its word
// until the number is right: nobody waits for more than that, and no fence stands between.

#include <cstdint>

#include "kernels/cuda/device.h"

namespace facet::cuda {

__device__ __forceinline__ void tell(uint2* word, uint32_t value, uint32_t number) {
  const uint64_t both = uint64_t{number} << 32 | value;
  asm volatile("st.relaxed.gpu.global.u64 [%0], %1;" ::"l"(word), "l"(both) : "memory");
}
__device__ __forceinline__ void tell(uint2* word, float value, uint32_t number) {
  tell(word, __float_as_uint(value), number);
}
__device__ __forceinline__ uint2 look(const uint2* word) {
  uint64_t both;
  asm volatile("ld.relaxed.gpu.global.u64 %0, [%1];" : "=l"(both) : "l"(word) : "memory");
  return {static_cast<uint32_t>(both), static_cast<uint32_t>(both >> 32)};
}

/// Waits for kCount words, word(i) being where the i-th is; value(i, x) is then called with each.
/// If some are not there at the first look, the last alone is looked at until it is, which costs
/// others less.
template <int kCount, class Word, class Value>
__device__ __forceinline__ void hear(uint32_t number, const Word& word, const Value& value) {
  uint2 words[kCount];
  while (true) {
#pragma unroll
    for (int i = 0; i < kCount; ++i) words[i] = look(word(i));
    bool all = true;
#pragma unroll
    for (int i = 0; i < kCount; ++i) all = all && words[i].y == number;
    if (all) break;
    while (look(word(kCount - 1)).y != number) {
    }
  }
#pragma unroll
  for (int i = 0; i < kCount; ++i) value(i, words[i].x);
}

}  // namespace facet::cuda
