#include "cache/kv_cache.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace facet {
namespace {

int64_t layer_bytes(const KvLayout& layout, int64_t pages) {
  return pages * page_elements(layout) * bits_of(layout.dtype) / 8;
}

int32_t pages_over(const KvLayout& layout, int64_t positions) {
  return static_cast<int32_t>((positions + layout.page_size - 1) / layout.page_size);
}

}  // namespace

KvCache::KvCache(std::vector<KvGroupSpec> groups,
                 const std::vector<int32_t>& pages,
                 const Buffer::Allocator& allocator)
    : groups_(std::move(groups)), step_tables_(groups_.size()) {
  CHECK(pages.size() == groups_.size(), "{} page counts for {} groups", pages.size(),
        groups_.size());
  for (size_t g = 0; g < groups_.size(); ++g) {
    const int64_t bytes = int64_t{groups_[g].layers} * layer_bytes(groups_[g].layout, pages[g]);
    pools_.push_back({PageAllocator(pages[g]), Buffer(bytes, allocator), Buffer(bytes, allocator)});
  }
}

int32_t KvCache::pages_for(const KvGroupSpec& group, int64_t positions, int32_t step_rows) {
  if (group.window == 0) return pages_over(group.layout, positions);
  // The rows of a step and what the first of them sees; they need not start at a page's border.
  const int64_t span = int64_t{group.window} - 1 + step_rows;
  return std::min(pages_over(group.layout, positions), pages_over(group.layout, span) + 1);
}

int64_t KvCache::page_bytes(const KvGroupSpec& group) {
  return int64_t{2} * group.layers * layer_bytes(group.layout, 1);
}

CacheSlot KvCache::open() {
  const auto unused =
      std::find_if(sequences_.begin(), sequences_.end(), [](const Sequence& s) { return !s.open; });
  const auto index = unused - sequences_.begin();
  if (unused == sequences_.end()) sequences_.emplace_back();
  Sequence& opened = sequences_[static_cast<size_t>(index)];
  opened.open = true;
  opened.length = 0;
  opened.tables.assign(groups_.size(), {});
  return CacheSlot{static_cast<int32_t>(index)};
}

KvCache::Sequence& KvCache::sequence(CacheSlot slot) {
  return const_cast<Sequence&>(std::as_const(*this).sequence(slot));
}

const KvCache::Sequence& KvCache::sequence(CacheSlot slot) const {
  const auto index = static_cast<size_t>(slot);
  CHECK(index < sequences_.size() && sequences_[index].open, "slot {} is not open", index);
  return sequences_[index];
}

void KvCache::close(CacheSlot slot) {
  Sequence& closed = sequence(slot);
  for (size_t g = 0; g < groups_.size(); ++g) {
    for (const PageId page : closed.tables[g]) {
      if (page != kNoPage) pools_[g].pages.give_back(page);
    }
  }
  closed = {};
}

void KvCache::release_unseen(Sequence& sequence) {
  for (size_t g = 0; g < groups_.size(); ++g) {
    if (groups_[g].window == 0) continue;
    // The next row stands at `length` and sees positions > length - window.
    const int64_t first_seen =
        std::max<int64_t>(0, int64_t{sequence.length} - groups_[g].window + 1);
    const int64_t unseen_pages = first_seen / groups_[g].layout.page_size;
    std::vector<PageId>& table = sequence.tables[g];
    for (int64_t i = std::min<int64_t>(unseen_pages, std::ssize(table)) - 1; i >= 0; --i) {
      PageId& page = table[static_cast<size_t>(i)];
      if (page == kNoPage) break;  // so are all before it
      pools_[g].pages.give_back(page);
      page = kNoPage;
    }
  }
}

bool KvCache::reserve(CacheSlot slot, int32_t rows) {
  Sequence& grown = sequence(slot);
  release_unseen(grown);
  const auto missing = [&](size_t g) {
    const int32_t wanted = pages_over(groups_[g].layout, int64_t{grown.length} + rows);
    return std::max<int32_t>(0, wanted - static_cast<int32_t>(grown.tables[g].size()));
  };
  for (size_t g = 0; g < groups_.size(); ++g) {
    if (missing(g) > pools_[g].pages.free_pages()) return false;
  }
  for (size_t g = 0; g < groups_.size(); ++g) {
    for (int32_t i = missing(g); i > 0; --i) grown.tables[g].push_back(*pools_[g].pages.take());
  }
  return true;
}

void KvCache::advance(CacheSlot slot, int32_t rows) {
  Sequence& grown = sequence(slot);
  for (size_t g = 0; g < groups_.size(); ++g) {
    const int64_t room = std::ssize(grown.tables[g]) * int64_t{groups_[g].layout.page_size};
    CHECK(grown.length + rows <= room, "{} + {} positions in room for {}", grown.length, rows,
          room);
  }
  grown.length += rows;
}

int32_t KvCache::length(CacheSlot slot) const { return sequence(slot).length; }

std::vector<KvView> KvCache::views(std::span<const CacheSlot> slots) {
  std::vector<KvView> result;
  for (size_t g = 0; g < groups_.size(); ++g) {
    step_tables_[g].clear();
    for (const CacheSlot slot : slots) step_tables_[g].emplace_back(sequence(slot).tables[g]);
    const KvLayout& layout = groups_[g].layout;
    const int64_t bytes = layer_bytes(layout, pools_[g].pages.count());
    for (int32_t layer = 0; layer < groups_[g].layers; ++layer) {
      KvView view;
      view.layout = layout;
      view.k = pools_[g].k.data() + layer * bytes;
      view.v = pools_[g].v.data() + layer * bytes;
      view.page_tables = step_tables_[g];
      result.push_back(view);
    }
  }
  return result;
}

void KvCache::check_integrity() const {
  for (size_t g = 0; g < groups_.size(); ++g) {
    const PageAllocator& pages = pools_[g].pages;
    std::vector<int32_t> holders(static_cast<size_t>(pages.count()), 0);
    int32_t held = 0;
    for (const Sequence& sequence : sequences_) {
      if (!sequence.open) continue;
      for (const PageId page : sequence.tables[g]) {
        if (page == kNoPage) continue;
        CHECK(pages.is_taken(page), "group {} page {} is held and free", g, to_index(page));
        CHECK(++holders[static_cast<size_t>(to_index(page))] == 1, "group {} page {} is held twice",
              g, to_index(page));
        ++held;
      }
    }
    CHECK(held + pages.free_pages() == pages.count(), "group {}: {} held + {} free of {}", g, held,
          pages.free_pages(), pages.count());
  }
}

}  // namespace facet
