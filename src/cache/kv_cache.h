#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/ids.h"
#include "cache/page_allocator.h"
#include "kernels/kv_view.h"
#include "tensor/buffer.h"

namespace facet {

/// A sequence's place in the cache.
enum class CacheSlot : int32_t {};

/// Paged KV memory with a pool of its own for each KV group, so that sliding layers hold a window
/// and full layers a whole context. Knows no model. One thread.
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
  /// Makes room for `rows` more positions. First gives back the pages that no later row can see,
  /// and what keep() holds on to if a pool is short without it. Returns false if it is short all
  /// the same; then no page was added.
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

  /// Views for a step over `slots`, one for each layer of each group, group after group. Scales are
  /// 1: the model sets its own. Valid until the next call that changes the cache.
  std::vector<KvView> views(std::span<const CacheSlot> slots);

  const std::vector<KvGroupSpec>& groups() const { return groups_; }
  int32_t free_pages(int32_t group) const {
    return pools_[static_cast<size_t>(group)].pages.free_pages();
  }
  /// Recounts every page: each is free, or held by exactly one sequence. CHECKs.
  void check_integrity() const;

 private:
  struct Pool {
    PageAllocator pages;
    Buffer k;  // [layers, pages, K, page_size, D]
    Buffer v;
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
  void release_unseen(Sequence& sequence);
  void release_kept(Sequence& sequence);

  std::vector<KvGroupSpec> groups_;
  std::vector<Pool> pools_;
  std::vector<Sequence> sequences_;  // by slot
  std::vector<std::vector<std::span<const PageId>>>
      step_tables_;  // by group; what views() handed out
};

}  // namespace facet
