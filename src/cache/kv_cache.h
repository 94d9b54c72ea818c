#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/ids.h"
#include "cache/page_allocator.h"
#include "kernels/kv_view.h"
#include "tensor/buffer.h"

namespace facet {

/// A sequence's place in the cache.
enum class CacheSlot : int32_t {};

/// The cache as one step sees it: views of every layer over copies of the sequences' page tables,
/// which stay as they are while the cache changes. Move-only, as the views point into it.
struct CacheViews {
  CacheViews() = default;
  CacheViews(CacheViews&&) = default;
  CacheViews& operator=(CacheViews&&) = default;

  std::vector<KvView> layers;  ///< one for each layer of each group, group after group; scales are
                               ///< 1: the model sets its own
  std::vector<std::vector<PageId>> pages;                    ///< by group: all tables, end to end
  std::vector<std::vector<std::span<const PageId>>> tables;  ///< by group, by sequence
};

/// Paged KV memory with a pool of its own for each KV group, so that sliding layers hold a window
/// and full layers a whole context. A page may be held by several sequences, which then only read
/// it: positions are written to pages of one holder. Knows no model. One thread; what it hands out
/// for a step may be used by another.
class KvCache {
 public:
  /// pages[g] pages for groups[g]. Throws Error{kOutOfMemory}.
  KvCache(std::vector<KvGroupSpec> groups,
          const std::vector<int32_t>& pages,
          const Buffer::Allocator& allocator);

  /// Pages of group g that one sequence of up to `positions` holds at most, if no step adds more
  /// than `step_rows` rows.
  static int32_t pages_for(const KvGroupSpec& group, int64_t positions, int32_t step_rows);
  /// Pages of group g that keep() holds on to at most, beyond pages_for().
  static int32_t pages_kept(const KvGroupSpec& group);
  /// Bytes of one page over all layers of the group, K and V.
  static int64_t page_bytes(const KvGroupSpec& group);

  CacheSlot open();
  /// Gives all pages of the sequence back.
  void close(CacheSlot slot);
  /// Opens a sequence whose first `length` positions, whole pages, others wrote: tables[g] names
  /// its pages of group g. Holds them.
  CacheSlot open_with(std::vector<std::vector<PageId>> tables, int32_t length);
  /// Opens a sequence whose first `length` positions are those of `slot`. Whole pages are shared, a
  /// page that is only begun is copied: at most one a group. nullopt if a pool has no page for it.
  /// No step may be under way.
  [[nodiscard]] std::optional<CacheSlot> fork(CacheSlot slot, int32_t length);

  /// Gives back the sliding pages that no row from `position` on sees, but for what keep() holds.
  void trim(CacheSlot slot, int32_t position);
  /// Adds pages for `rows` more positions, or none and returns false if a pool is short of them.
  [[nodiscard]] bool grow(CacheSlot slot, int32_t rows);
  /// trim() to what is written, then grow(); gives up what keep() holds on to if a pool is short
  /// without it.
  [[nodiscard]] bool reserve(CacheSlot slot, int32_t rows);
  /// Counts `rows` reserved positions as written.
  void advance(CacheSlot slot, int32_t rows);
  /// Positions written.
  int32_t length(CacheSlot slot) const;

  /// Holds on to the pages that a row at `position` sees, which may lie ahead of what is written:
  /// the sequence can be rewound to there however far it grows. One position per sequence; the
  /// last call counts.
  void keep(CacheSlot slot, int32_t position);
  /// The largest length up to `length` that rewind() may go to: all that the next row would see is
  /// still there. 0 always is.
  int32_t rewindable(CacheSlot slot, int32_t length) const;
  /// Forgets the positions from `length` on, which must be rewindable.
  void rewind(CacheSlot slot, int32_t length);

  /// Fills `views` for a step over `slots`; what it held before is reused or dropped.
  void views(std::span<const CacheSlot> slots, CacheViews& views) const;

  /// Finds memory (populate()) for free pages, those that are taken next: in each group until
  /// `ahead_bytes` of them have theirs, but for at most `most` pages. False if there was nothing to
  /// do; pages of devices have their memory.
  bool populate_ahead(int64_t ahead_bytes, int32_t most);

  const std::vector<KvGroupSpec>& groups() const { return groups_; }
  int32_t group_count() const { return static_cast<int32_t>(groups_.size()); }
  int32_t free_pages(int32_t group) const { return pages(group).free_pages(); }
  /// Who holds the pages of a group.
  PageAllocator& pages(int32_t group) { return pools_[static_cast<size_t>(group)].pages; }
  const PageAllocator& pages(int32_t group) const {
    return pools_[static_cast<size_t>(group)].pages;
  }
  /// The page of positions [index * page_size, …) of a sequence, or kNoPage.
  PageId page(CacheSlot slot, int32_t group, int32_t index) const;
  /// Holds `page`, which has the same content, instead of the one that page() names.
  void replace(CacheSlot slot, int32_t group, int32_t index, PageId page);
  /// Recounts the sequences that hold each page, and the free pages. CHECKs.
  void check_integrity() const;

 private:
  struct Pool {
    PageAllocator pages;
    Buffer k;  // [layers, pages, K, page_size, D]
    Buffer v;
    int32_t populated = 0;  // pages [0, populated) have memory
  };
  struct Sequence {
    bool open = false;
    int32_t length = 0;
    int32_t kept = 0;  // see keep(); 0: nothing
    std::vector<std::vector<PageId>>
        tables;  // by group; index i holds positions from i * page_size
  };

  Sequence& sequence(CacheSlot slot);
  const Sequence& sequence(CacheSlot slot) const;
  bool has_room(const Sequence& sequence, int32_t rows) const;
  void trim(Sequence& sequence, int32_t position);
  void release_kept(Sequence& sequence);
  void copy_page(int32_t group, PageId from, PageId to);

  std::vector<KvGroupSpec> groups_;
  std::vector<Pool> pools_;
  std::vector<Sequence> sequences_;  // by slot
};

}  // namespace facet
