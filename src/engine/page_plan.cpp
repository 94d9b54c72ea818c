#include "engine/page_plan.h"

#include <algorithm>
#include <fmt/core.h>

#include "base/error.h"
#include "base/text.h"

namespace facet {
namespace {

/// The windows of all running sequences, twice.
int64_t wanted_sliding_pages(const KvGroupSpec& group, const PageNeeds& needs) {
  return int64_t{2} * needs.max_running * pages_of_sequence(group, needs.max_model_len, needs);
}

/// More would never be used: every running sequence at full length, and as much cached.
int64_t wanted_full_pages(const KvGroupSpec& group, const PageNeeds& needs) {
  return wanted_sliding_pages(group, needs);
}

}  // namespace

int32_t pages_of_sequence(const KvGroupSpec& group, int32_t positions, const PageNeeds& needs) {
  return KvCache::pages_for(group, positions, needs.step_rows + needs.lag);
}

std::vector<int32_t> plan_pages(std::span<const KvGroupSpec> groups,
                                int64_t bytes,
                                const PageNeeds& needs) {
  std::vector<int32_t> pages(groups.size(), 0);
  int64_t sliding_wanted = 0;
  int64_t sliding_least = 0;
  int64_t full_bytes = 0;  // of a page in every full group
  for (const KvGroupSpec& group : groups) {
    const int64_t page = KvCache::page_bytes(group);
    if (group.window == 0) {
      full_bytes += page;
    } else {
      sliding_wanted += wanted_sliding_pages(group, needs) * page;
      sliding_least += pages_of_sequence(group, needs.max_model_len, needs) * page;
    }
  }
  const int64_t sliding = std::min(sliding_wanted, std::max(sliding_least, bytes / 2));
  int64_t used = 0;
  for (size_t g = 0; g < groups.size(); ++g) {
    if (groups[g].window == 0) continue;
    const int64_t page = KvCache::page_bytes(groups[g]);
    // The same share of what it wants for each sliding group.
    const auto wanted = static_cast<double>(wanted_sliding_pages(groups[g], needs));
    const double share = static_cast<double>(sliding) / static_cast<double>(sliding_wanted);
    pages[g] = static_cast<int32_t>(wanted * share);
    used += pages[g] * page;
  }
  for (size_t g = 0; g < groups.size(); ++g) {
    if (groups[g].window != 0) continue;
    pages[g] = static_cast<int32_t>(
        std::clamp<int64_t>((bytes - used) / full_bytes, 0, wanted_full_pages(groups[g], needs)));
  }
  if (longest_sequence(groups, pages, needs) < 2) {
    throw Error(ErrorCode::kOutOfMemory,
                fmt::format("{} for keys and values hold no sequence: sliding layers alone need {}",
                            human_bytes(bytes), human_bytes(sliding_least)));
  }
  return pages;
}

int32_t longest_sequence(std::span<const KvGroupSpec> groups,
                         std::span<const int32_t> pages,
                         const PageNeeds& needs) {
  int64_t longest = needs.max_model_len;
  for (size_t g = 0; g < groups.size(); ++g) {
    if (pages_of_sequence(groups[g], needs.max_model_len, needs) <= pages[g]) continue;
    // A sliding group that has not enough for its window holds what fits without sliding.
    longest = std::min(longest, int64_t{pages[g]} * groups[g].layout.page_size);
  }
  return static_cast<int32_t>(longest);
}

}  // namespace facet
