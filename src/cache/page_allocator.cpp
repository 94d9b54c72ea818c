#include "cache/page_allocator.h"

#include <utility>

#include "base/check.h"

namespace facet {

PageAllocator::PageAllocator(int32_t count) : pages_(static_cast<size_t>(count)) {
  free_.reserve(pages_.size());
  for (int32_t page = count - 1; page >= 0; --page) free_.push_back(PageId{page});
}

PageAllocator::Page& PageAllocator::at(PageId page) {
  return const_cast<Page&>(std::as_const(*this).at(page));
}

const PageAllocator::Page& PageAllocator::at(PageId page) const {
  const int32_t index = to_index(page);
  CHECK(index >= 0 && index < count(), "page {} of {}", index, count());
  return pages_[static_cast<size_t>(index)];
}

std::optional<PageId> PageAllocator::take() {
  if (free_.empty()) return std::nullopt;
  const PageId page = free_.back();
  free_.pop_back();
  at(page).holders = 1;
  return page;
}

void PageAllocator::hold(PageId page) {
  CHECK(!is_free(page), "page {} is free", to_index(page));
  Page& held = at(page);
  if (held.holders++ == 0) --cached_alone_;
}

void PageAllocator::give_back(PageId page) {
  Page& held = at(page);
  CHECK(held.holders > 0, "page {} is not taken", to_index(page));
  if (--held.holders > 0) return;
  if (held.cached) {
    ++cached_alone_;
  } else {
    free_.push_back(page);
  }
}

void PageAllocator::hold_cached(PageId page) {
  Page& held = at(page);
  CHECK(held.holders > 0 && !held.cached, "page {} has {} holders, cached {}", to_index(page),
        held.holders, held.cached);
  held.cached = true;
}

void PageAllocator::give_back_cached(PageId page) {
  Page& held = at(page);
  CHECK(held.cached, "page {} is not cached", to_index(page));
  held.cached = false;
  if (held.holders > 0) return;
  --cached_alone_;
  free_.push_back(page);
}

}  // namespace facet
