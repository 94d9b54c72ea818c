#include "cli/session.h"

#include <algorithm>
#include <vector>

namespace facet::cli {
namespace {

int64_t positions_of(const SessionLimits& limits, const gemma4::Gemma4Config& config) {
  const int64_t most = config.max_position_embeddings;
  return limits.positions <= 0 ? most : std::min(limits.positions, most);
}

KvCache make_cache(const gemma4::Gemma4Model& model,
                   DType dtype,
                   int64_t positions,
                   const SessionLimits& limits,
                   const Buffer::Allocator& allocator) {
  const std::vector<KvGroupSpec> groups = model.kv_groups(kPageSize, dtype);
  std::vector<int32_t> pages;
  pages.reserve(groups.size());
  for (const KvGroupSpec& group : groups) {
    pages.push_back(limits.sequences *
                    pages_of_sequence(group, positions, model.max_rows(), limits.rewinding));
  }
  return {groups, pages, allocator};
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
    : loaded_(options, limits.max_logit_rows),
      positions_(positions_of(limits, loaded_.config())),
      cache_(make_cache(loaded_.model(),
                        kv_dtype(options, loaded_.quant()),
                        positions_,
                        limits,
                        loaded_.backend().allocator())),
      stepper_(loaded_.model(), cache_) {}

}  // namespace facet::cli
