#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "cache/kv_cache.h"

namespace facet {

/// What sequences need of the cache.
struct PageNeeds {
  int32_t max_model_len = 0;  ///< tokens of one sequence
  int32_t max_running = 0;    ///< sequences
  int32_t step_rows = 0;      ///< most rows that one sequence has in a step
  int32_t lag = 0;            ///< positions that stay longer than a sliding window asks for
};

/// Pages of a group that one sequence of `positions` holds at most.
int32_t pages_of_sequence(const KvGroupSpec& group, int32_t positions, const PageNeeds& needs);

/// Splits `bytes` among the groups. Sliding groups get the windows of all running sequences, and as
/// much again for the windows that the prefix cache keeps, but no more than half of the bytes
/// unless one sequence needs it; full groups share the rest evenly in positions. No group gets more
/// than it can use. Throws Error{kOutOfMemory} if not even a sequence of two tokens fits.
std::vector<int32_t> plan_pages(std::span<const KvGroupSpec> groups,
                                int64_t bytes,
                                const PageNeeds& needs);

/// The longest sequence, up to needs.max_model_len, that fits into the pages alone.
int32_t longest_sequence(std::span<const KvGroupSpec> groups,
                         std::span<const int32_t> pages,
                         const PageNeeds& needs);

}  // namespace facet
