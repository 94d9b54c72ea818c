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

/// Indices [begin, end) of a page table.
struct PageRange {
  int64_t begin;
  int64_t end;
  bool holds(int64_t i) const { return i >= begin && i < end; }
};

/// The pages of what a row at `position` sees before itself: from position - window + 1.
PageRange pages_seen(const KvGroupSpec& group, int64_t position) {
  const int64_t first =
      group.window == 0 ? 0 : std::max<int64_t>(0, position - int64_t{group.window} + 1);
  return {first / group.layout.page_size, pages_over(group.layout, position)};
}

}  // namespace

KvCache::KvCache(std::vector<KvGroupSpec> groups,
                 const std::vector<int32_t>& pages,
                 const Buffer::Allocator& allocator)
    : groups_(std::move(groups)) {
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

int32_t KvCache::pages_kept(const KvGroupSpec& group) {
  return group.window == 0 ? 0 : pages_over(group.layout, int64_t{group.window} - 1) + 1;
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
  opened.kept = 0;
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

CacheSlot KvCache::open_with(std::vector<std::vector<PageId>> tables, int32_t length) {
  const CacheSlot slot = open();
  Sequence& opened = sequence(slot);
  for (size_t g = 0; g < groups_.size(); ++g) {
    CHECK(std::ssize(tables[g]) * int64_t{groups_[g].layout.page_size} == length,
          "{} pages for {} positions", tables[g].size(), length);
    for (const PageId page : tables[g]) {
      if (page != kNoPage) pools_[g].pages.hold(page);
    }
  }
  opened.tables = std::move(tables);
  opened.length = length;
  return slot;
}

std::optional<CacheSlot> KvCache::fork(CacheSlot slot, int32_t length) {
  for (size_t g = 0; g < groups_.size(); ++g) {
    const bool whole = length % groups_[g].layout.page_size == 0;
    if (!whole && pools_[g].pages.free_pages() == 0) return std::nullopt;
  }
  const CacheSlot opened = open();  // may move the sequences
  const Sequence& from = sequence(slot);
  Sequence& to = sequence(opened);
  CHECK(length <= from.length, "a fork at {} of {}", length, from.length);
  to.length = length;
  for (size_t g = 0; g < groups_.size(); ++g) {
    const auto whole = static_cast<size_t>(length / groups_[g].layout.page_size);
    to.tables[g].assign(from.tables[g].begin(),
                        from.tables[g].begin() + static_cast<std::ptrdiff_t>(whole));
    for (const PageId page : to.tables[g]) {
      if (page != kNoPage) pools_[g].pages.hold(page);
    }
    if (length % groups_[g].layout.page_size == 0) continue;
    to.tables[g].push_back(*pools_[g].pages.take());
    copy_page(static_cast<int32_t>(g), from.tables[g][whole], to.tables[g][whole]);
  }
  return opened;
}

void KvCache::copy_page(int32_t group, PageId from, PageId to) {
  const KvGroupSpec& spec = groups_[static_cast<size_t>(group)];
  Pool& pool = pools_[static_cast<size_t>(group)];
  const int64_t page = layer_bytes(spec.layout, 1);
  const int64_t layer = layer_bytes(spec.layout, pool.pages.count());
  for (int64_t at = 0; at < spec.layers * layer; at += layer) {
    for (const Buffer* buffer : {&pool.k, &pool.v}) {
      buffer->allocator().copy(buffer->data() + at + to_index(to) * page,
                               buffer->data() + at + to_index(from) * page, page);
    }
  }
}

void KvCache::trim(CacheSlot slot, int32_t position) { trim(sequence(slot), position); }

void KvCache::trim(Sequence& sequence, int32_t position) {
  for (size_t g = 0; g < groups_.size(); ++g) {
    if (groups_[g].window == 0) continue;
    std::vector<PageId>& table = sequence.tables[g];
    const PageRange kept = pages_seen(groups_[g], sequence.kept);
    const int64_t unseen = pages_seen(groups_[g], position).begin;
    for (int64_t i = std::min<int64_t>(unseen, std::ssize(table)) - 1; i >= 0; --i) {
      PageId& page = table[static_cast<size_t>(i)];
      if (page == kNoPage) break;  // so are all before it that are not kept
      if (kept.holds(i)) continue;
      pools_[g].pages.give_back(page);
      page = kNoPage;
    }
  }
}

void KvCache::release_kept(Sequence& sequence) {
  for (size_t g = 0; g < groups_.size(); ++g) {
    if (groups_[g].window == 0) continue;
    std::vector<PageId>& table = sequence.tables[g];
    const PageRange kept = pages_seen(groups_[g], sequence.kept);
    const int64_t unseen = pages_seen(groups_[g], sequence.length).begin;
    const int64_t end = std::min({kept.end, unseen, std::ssize(table)});
    for (int64_t i = kept.begin; i < end; ++i) {
      PageId& page = table[static_cast<size_t>(i)];
      if (page == kNoPage) continue;
      pools_[g].pages.give_back(page);
      page = kNoPage;
    }
  }
  sequence.kept = 0;
}

bool KvCache::has_room(const Sequence& sequence, int32_t rows) const {
  for (size_t g = 0; g < groups_.size(); ++g) {
    const int64_t wanted = pages_over(groups_[g].layout, int64_t{sequence.length} + rows);
    if (wanted - std::ssize(sequence.tables[g]) > pools_[g].pages.free_pages()) return false;
  }
  return true;
}

bool KvCache::reserve(CacheSlot slot, int32_t rows) {
  Sequence& grown = sequence(slot);
  trim(grown, grown.length);
  if (!has_room(grown, rows)) release_kept(grown);
  return grow(slot, rows);
}

bool KvCache::grow(CacheSlot slot, int32_t rows) {
  Sequence& grown = sequence(slot);
  if (!has_room(grown, rows)) return false;
  for (size_t g = 0; g < groups_.size(); ++g) {
    const int32_t begun = grown.length / groups_[g].layout.page_size;
    if (grown.length % groups_[g].layout.page_size != 0) {
      const PageId page = grown.tables[g][static_cast<size_t>(begun)];
      CHECK(pools_[g].pages.holders(page) == 1 && !pools_[g].pages.is_cached(page),
            "group {} page {} is shared and written to", g, to_index(page));
    }
    const int64_t wanted = pages_over(groups_[g].layout, int64_t{grown.length} + rows);
    while (std::ssize(grown.tables[g]) < wanted) grown.tables[g].push_back(*pools_[g].pages.take());
  }
  return true;
}

void KvCache::keep(CacheSlot slot, int32_t position) {
  Sequence& held = sequence(slot);
  if (held.kept == position) return;
  release_kept(held);
  held.kept = position;
}

int32_t KvCache::rewindable(CacheSlot slot, int32_t length) const {
  const Sequence& held = sequence(slot);
  const auto has_all = [&](int32_t position) {
    for (size_t g = 0; g < groups_.size(); ++g) {
      const PageRange seen = pages_seen(groups_[g], position);
      for (int64_t i = seen.begin; i < seen.end; ++i) {
        if (held.tables[g][static_cast<size_t>(i)] == kNoPage) return false;
      }
    }
    return true;
  };
  int32_t found = std::min(length, held.length);
  while (!has_all(found)) --found;
  return found;
}

void KvCache::rewind(CacheSlot slot, int32_t length) {
  CHECK(rewindable(slot, length) == length, "{} positions cannot be rewound to {}",
        sequence(slot).length, length);
  Sequence& cut = sequence(slot);
  cut.length = length;
  for (size_t g = 0; g < groups_.size(); ++g) {
    std::vector<PageId>& table = cut.tables[g];
    while (std::ssize(table) > pages_over(groups_[g].layout, length)) {
      if (table.back() != kNoPage) pools_[g].pages.give_back(table.back());
      table.pop_back();
    }
  }
  if (cut.kept > length) release_kept(cut);
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

void KvCache::views(std::span<const CacheSlot> slots, CacheViews& views) const {
  views.layers.clear();
  views.pages.resize(groups_.size());
  views.tables.resize(groups_.size());
  for (size_t g = 0; g < groups_.size(); ++g) {
    std::vector<PageId>& pages = views.pages[g];
    pages.clear();
    for (const CacheSlot slot : slots) {
      const std::vector<PageId>& table = sequence(slot).tables[g];
      pages.insert(pages.end(), table.begin(), table.end());
    }
    views.tables[g].clear();
    std::span<const PageId> rest = pages;
    for (const CacheSlot slot : slots) {
      const size_t count = sequence(slot).tables[g].size();
      views.tables[g].push_back(rest.first(count));
      rest = rest.subspan(count);
    }
    const KvLayout& layout = groups_[g].layout;
    const int64_t bytes = layer_bytes(layout, pools_[g].pages.count());
    for (int32_t layer = 0; layer < groups_[g].layers; ++layer) {
      KvView view;
      view.layout = layout;
      view.k = pools_[g].k.data() + layer * bytes;
      view.v = pools_[g].v.data() + layer * bytes;
      view.page_tables = views.tables[g];
      views.layers.push_back(view);
    }
  }
}

bool KvCache::populate_ahead(int64_t ahead_bytes, int32_t most) {
  bool found = false;
  for (size_t g = 0; g < groups_.size(); ++g) {
    Pool& pool = pools_[g];
    if (pool.k.device() != Device::kHost) continue;
    // Pages that were never taken follow on all that were.
    const int32_t used = pool.pages.count() - pool.pages.free_pages();
    const int64_t wanted =
        std::min(int64_t{pool.pages.count()}, used + ahead_bytes / page_bytes(groups_[g]));
    const int64_t pages = std::min(int64_t{most}, wanted - pool.populated);
    if (pages <= 0) continue;
    const int64_t page = layer_bytes(groups_[g].layout, 1);
    for (int64_t layer = 0; layer < groups_[g].layers; ++layer) {
      const int64_t begin = (layer * pool.pages.count() + pool.populated) * page;
      for (const Buffer* buffer : {&pool.k, &pool.v}) populate(*buffer, begin, pages * page);
    }
    pool.populated += static_cast<int32_t>(pages);
    found = true;
  }
  return found;
}

PageId KvCache::page(CacheSlot slot, int32_t group, int32_t index) const {
  const std::vector<PageId>& table = sequence(slot).tables[static_cast<size_t>(group)];
  CHECK(index >= 0 && index < std::ssize(table), "page {} of {}", index, table.size());
  return table[static_cast<size_t>(index)];
}

void KvCache::replace(CacheSlot slot, int32_t group, int32_t index, PageId page) {
  const PageId old = this->page(slot, group, index);
  PageAllocator& allocator = pages(group);
  allocator.hold(page);
  if (old != kNoPage) allocator.give_back(old);
  sequence(slot).tables[static_cast<size_t>(group)][static_cast<size_t>(index)] = page;
}

void KvCache::check_integrity() const {
  for (size_t g = 0; g < groups_.size(); ++g) {
    const PageAllocator& pages = pools_[g].pages;
    std::vector<int32_t> holders(static_cast<size_t>(pages.count()), 0);
    for (const Sequence& sequence : sequences_) {
      if (!sequence.open) continue;
      for (const PageId page : sequence.tables[g]) {
        if (page != kNoPage) ++holders[static_cast<size_t>(to_index(page))];
      }
    }
    int32_t free = 0;
    int32_t cached_alone = 0;
    for (int32_t p = 0; p < pages.count(); ++p) {
      const PageId page{p};
      const int32_t counted = holders[static_cast<size_t>(p)];
      CHECK(counted == pages.holders(page), "group {} page {}: {} sequences, counted as {}", g, p,
            counted, pages.holders(page));
      if (counted > 0) continue;
      ++(pages.is_cached(page) ? cached_alone : free);
    }
    CHECK(free == pages.free_pages() && cached_alone == pages.cached_alone(),
          "group {}: {} free, counted as {}; {} cached alone, counted as {}", g, free,
          pages.free_pages(), cached_alone, pages.cached_alone());
  }
}

}  // namespace facet
