#pragma once

#include <cstdint>

#include "cache/kv_cache.h"
#include "verify/verify.h"

namespace facet {

/// A sequence's place on one side.
struct ContextTarget {
  const VerifySide& side;
  KvCache& cache;
  CacheSlot slot;
};

/// Positions that one call of the cache's store gets.
inline constexpr int32_t kContextStep = 64;

/// Writes the same random keys and values for `positions` positions into both empty sequences:
/// independent values of variance 1, keys times k_norm, which is the size that the model's own
/// norms give them. Both caches must have room in steps of kContextStep.
void fill_random_context(const ContextTarget& ref, const ContextTarget& fast, int32_t positions);

}  // namespace facet
