#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "base/ids.h"

namespace facet {

/// Hands out page numbers 0 … count-1. Pages carry no data here.
class PageAllocator {
 public:
  explicit PageAllocator(int32_t count);

  /// nullopt if none is free.
  std::optional<PageId> take();
  void give_back(PageId page);
  int32_t free_pages() const { return static_cast<int32_t>(free_.size()); }
  int32_t count() const { return static_cast<int32_t>(taken_.size()); }
  bool is_taken(PageId page) const { return taken_[static_cast<size_t>(to_index(page))]; }

 private:
  std::vector<PageId> free_;  // the last is taken next
  std::vector<bool> taken_;   // by page
};

}  // namespace facet
