#pragma once

#include <cstdint>

// Functions that a GPU has too.
#ifdef __CUDACC__
#define FACET_ON_ANY_DEVICE __host__ __device__
#else
#define FACET_ON_ANY_DEVICE
#endif

namespace facet {

/// How the next token of a row is drawn from its largest logits, as engine/sampling.h draws it:
/// steps carry these to backends that leave logits on their device.
struct DrawSpec {
  static constexpr int32_t kMostExcluded = 32;

  int32_t top_k = 0;         ///< that are drawn from; 1: the largest is taken; 0: nothing is drawn
  float temperature = 1.0F;  ///< above 0 where top_k is not 1
  float top_p = 1.0F;
  float min_p = 0.0F;
  uint32_t seed[2] = {};      ///< low half first
  uint32_t position[2] = {};  ///< likewise: tokens before this one
  int32_t choice = 0;
  int32_t excluded_count = 0;
  int32_t excluded[kMostExcluded] = {};  ///< ids that may not be drawn
};

/// 24 bits of Philox4x32-10 (Salmon et al., SC 2011) under key `seed`, counter (position, choice).
FACET_ON_ANY_DEVICE inline float keyed_uniform_of(const uint32_t (&seed)[2],
                                                  const uint32_t (&position)[2],
                                                  int32_t choice) {
  uint32_t counter[4] = {position[0], position[1], static_cast<uint32_t>(choice), 0};
  uint32_t key[2] = {seed[0], seed[1]};
  for (int round = 0; round < 10; ++round) {
    const uint64_t product0 = uint64_t{0xD2511F53} * counter[0];
    const uint64_t product1 = uint64_t{0xCD9E8D57} * counter[2];
    const uint32_t next[4] = {static_cast<uint32_t>(product1 >> 32) ^ counter[1] ^ key[0],
                              static_cast<uint32_t>(product1),
                              static_cast<uint32_t>(product0 >> 32) ^ counter[3] ^ key[1],
                              static_cast<uint32_t>(product0)};
    for (int i = 0; i < 4; ++i) counter[i] = next[i];
    key[0] += 0x9E3779B9;
    key[1] += 0xBB67AE85;
  }
  return static_cast<float>(counter[0] >> 8) * 0x1p-24F;
}

}  // namespace facet
