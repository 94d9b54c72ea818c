#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "base/ids.h"

namespace facet {

/// Hands out page numbers 0 … count-1 and counts who holds each: any number of sequences, and the
/// prefix cache or not. What nobody holds is free. Pages carry no data here.
class PageAllocator {
 public:
  explicit PageAllocator(int32_t count);

  /// A page for one sequence; nullopt if none is free.
  std::optional<PageId> take();
  /// One more sequence holds a page that is not free.
  void hold(PageId page);
  /// One sequence less.
  void give_back(PageId page);
  /// The prefix cache begins to hold a page that is not free and that it does not hold, and lets go
  /// of it.
  void hold_cached(PageId page);
  void give_back_cached(PageId page);

  int32_t count() const { return static_cast<int32_t>(pages_.size()); }
  int32_t free_pages() const { return static_cast<int32_t>(free_.size()); }
  /// Pages that the prefix cache alone holds.
  int32_t cached_alone() const { return cached_alone_; }
  int32_t holders(PageId page) const { return at(page).holders; }
  bool is_cached(PageId page) const { return at(page).cached; }
  bool is_free(PageId page) const { return at(page).holders == 0 && !at(page).cached; }

 private:
  struct Page {
    int32_t holders = 0;  // sequences
    bool cached = false;
  };

  Page& at(PageId page);
  const Page& at(PageId page) const;

  std::vector<PageId> free_;  // the last is taken next
  std::vector<Page> pages_;
  int32_t cached_alone_ = 0;
};

}  // namespace facet
