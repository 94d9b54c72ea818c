#include "cli/session.h"

#include <algorithm>
#include <vector>

#include "base/error.h"

namespace facet::cli {
namespace {

int64_t positions_of(const SessionLimits& limits, const gemma4::Gemma4Config& config) {
  const int64_t most = config.max_position_embeddings;
  return limits.positions <= 0 ? most : std::min(limits.positions, most);
}

std::vector<int32_t> pages_of(const gemma4::Gemma4Model& model,
                              const std::vector<KvGroupSpec>& groups,
                              const SessionLimits& limits) {
  std::vector<int32_t> pages;
  pages.reserve(groups.size());
  for (const KvGroupSpec& group : groups) {
    pages.push_back(limits.sequences * pages_of_sequence(group,
                                                         positions_of(limits, model.config()),
                                                         model.max_rows(), limits.rewinding));
  }
  return pages;
}

KvCache make_cache(const gemma4::Gemma4Model& model,
                   DType dtype,
                   const SessionLimits& limits,
                   const Buffer::Allocator& allocator) {
  const std::vector<KvGroupSpec> groups = model.kv_groups(kPageSize, dtype);
  return in_place("keys and values",
                  [&] { return KvCache(groups, pages_of(model, groups, limits), allocator); });
}

/// Of what make_cache() will allocate.
LoadedModel::CacheWish cache_wish(const SessionLimits& limits) {
  const auto bytes = [limits](const gemma4::Gemma4Model& model, DType dtype) {
    const std::vector<KvGroupSpec> groups = model.kv_groups(kPageSize, dtype);
    const std::vector<int32_t> pages = pages_of(model, groups, limits);
    int64_t sum = 0;
    for (size_t g = 0; g < groups.size(); ++g) sum += pages[g] * KvCache::page_bytes(groups[g]);
    return sum;
  };
  return {bytes, limits.memory_flags};
}

}  // namespace

int32_t pages_of_sequence(const KvGroupSpec& group,
                          int64_t positions,
                          int32_t step_rows,
                          Rewinding rewinding) {
  const int32_t pages = KvCache::pages_for(group, positions, step_rows);
  if (rewinding == Rewinding::kNo) return pages;
  const auto all =
      static_cast<int32_t>((positions + group.layout.page_size - 1) / group.layout.page_size);
  return std::min(all, pages + KvCache::pages_kept(group));
}

Session::Session(const ModelOptions& options, const SessionLimits& limits)
    : loaded_(options, limits.max_logit_rows, cache_wish(limits)),
      positions_(positions_of(limits, loaded_.config())),
      cache_(make_cache(loaded_.model(),
                        kv_dtype(options, loaded_.quant()),
                        limits,
                        loaded_.backend().allocator())),
      stepper_(loaded_.model(), cache_) {}

}  // namespace facet::cli
