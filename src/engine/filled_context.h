#pragma once

#include <cstdint>

#include "cache/kv_cache.h"
#include "kernels/backend.h"

namespace facet {

/// For benchmarks: makes `slot` look as if it had read `positions` more tokens, without the work of
/// reading them: their keys and values, in every layer, are random numbers around zero. Works in
/// pieces of `step_rows` positions, as a prefill would, so the pages suffice that
/// KvCache::pages_for names. For backends whose tensors lie on the host. Throws Error{kOutOfMemory}
/// if they are not there.
void fill_context(
    KvCache& cache, CacheSlot slot, Backend& backend, int32_t positions, int32_t step_rows);

}  // namespace facet
