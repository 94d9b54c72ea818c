#include "cache/page_allocator.h"

#include "base/check.h"

namespace facet {

PageAllocator::PageAllocator(int32_t count) : taken_(static_cast<size_t>(count), false) {
  free_.reserve(taken_.size());
  for (int32_t page = count - 1; page >= 0; --page) free_.push_back(PageId{page});
}

std::optional<PageId> PageAllocator::take() {
  if (free_.empty()) return std::nullopt;
  const PageId page = free_.back();
  free_.pop_back();
  taken_[static_cast<size_t>(to_index(page))] = true;
  return page;
}

void PageAllocator::give_back(PageId page) {
  CHECK(to_index(page) >= 0 && to_index(page) < count() && is_taken(page), "page {} is not taken",
        to_index(page));
  taken_[static_cast<size_t>(to_index(page))] = false;
  free_.push_back(page);
}

}  // namespace facet
