#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "cache/kv_cache.h"

namespace facet {

/// Where to look for a page of `tokens` below the node `parent_id`. Equal hashes of unequal pages
/// cost time, nothing else.
using PageHash = uint64_t (*)(uint64_t parent_id, std::span<const int32_t> tokens);
uint64_t hash_page(uint64_t parent_id, std::span<const int32_t> tokens);

/// Pages of sequences that have been read, by the tokens they hold, so that a sequence which begins
/// as another did need not compute that beginning again. A tree of whole pages for each key: a node
/// is one page of tokens, and holds the pages of the full-attention groups for them. Of sliding
/// groups a node holds a page only where it was given one: a sequence can begin at a length whose
/// window is there without a gap.
///
/// Tokens are compared one by one; a hash only finds candidates. A page that sequences hold too
/// stays; the others go, least recently used first, when a pool is short: sliding pages by
/// themselves, full ones with the leaf of the tree they belong to. Invariant: a sequence that holds
/// a node's full-attention page holds those of all nodes above it. One thread.
class PrefixCache {
 public:
  /// `cache` must outlive it; its groups must have pages of one size. Tests give a hash that
  /// collides.
  explicit PrefixCache(KvCache& cache, PageHash hash = hash_page);
  ~PrefixCache();
  PrefixCache(const PrefixCache&) = delete;
  PrefixCache& operator=(const PrefixCache&) = delete;

  /// What is there of a token sequence. To be used before the cache changes.
  struct Match {
    int32_t length = 0;  ///< positions that a sequence can begin with: whole pages
    int32_t known = 0;   ///< positions that full-attention groups hold: at least `length`. Where
                         ///< sequences part: worth a sliding window of its own
    std::vector<std::vector<PageId>> pages;  ///< by group: the table of `length` positions
  };
  /// The longest beginning of `tokens`, of less than all of them, that is there under `key`.
  Match match(std::string_view key, std::span<const int32_t> tokens) const;
  /// Pages of a match that only the cache holds: so many fewer can be evicted once it is locked.
  int32_t unlocked_pages(const Match& match, int32_t group) const;
  /// Opens a sequence that begins with a match, whose pages then stay. KvCache::close releases it.
  CacheSlot lock(std::string_view key, std::span<const int32_t> tokens, Match match);

  /// Gives the cache the whole pages of `tokens`, which the sequence has read: all of the
  /// full-attention groups, and of the sliding ones what a row at the last border of pages, or one
  /// page before it, sees. Where equal pages are there already, the sequence takes them for its
  /// own.
  void insert(std::string_view key, std::span<const int32_t> tokens, CacheSlot slot);
  /// Gives up pages until `wanted` of the group are free, or none is left to give up.
  void evict(int32_t group, int32_t wanted);
  /// Gives up every page. No sequence may be open.
  void clear();

  /// Pages of tokens.
  int64_t nodes() const { return static_cast<int64_t>(nodes_.size()); }
  /// Recounts the pages that the cache holds, and looks at the invariants. CHECKs.
  void check_integrity() const;

 private:
  struct Node {
    uint64_t id = 0;
    uint64_t parent_id = 0;
    Node* parent = nullptr;  // null below a root
    int32_t children = 0;
    std::vector<int32_t> tokens;
    std::vector<PageId> pages;                     // by group
    std::list<Node*>::iterator place;              // in used_
    std::vector<std::list<Node*>::iterator> held;  // by sliding group, in held_, if it has a page
  };
  using Nodes = std::unordered_multimap<uint64_t, std::unique_ptr<Node>>;

  /// The id that stands above the first nodes of a key; 0 if there are none.
  uint64_t root_of(std::string_view key) const;
  Node* child_of(uint64_t parent_id, std::span<const int32_t> tokens) const;
  /// The nodes of the whole pages of `tokens`, as far as there are any.
  void find_path(std::string_view key, std::span<const int32_t> tokens) const;
  Node* add_child(uint64_t root_id, Node* parent, std::span<const int32_t> tokens);
  /// The first page that a row at `position`, a border of pages, sees in a sliding group.
  int32_t first_seen(int32_t group, int32_t position) const;
  /// Marks path_ as used now: a node before its parent.
  void touch_path();
  bool is_locked(const Node& node) const;
  void give_page(Node& node, int32_t group, PageId page);
  void drop_page(Node& node, int32_t group);
  void evict_sliding(int32_t group, int32_t wanted);
  void evict_leaves(int32_t group, int32_t wanted);
  void erase(Node& leaf);

  KvCache& cache_;
  const int32_t page_size_;
  const int32_t groups_;
  const PageHash hash_;
  uint64_t next_id_ = 1;
  Nodes nodes_;  // by hash_
  struct Root {
    uint64_t id = 0;
    int32_t children = 0;
  };
  std::unordered_map<std::string, Root> roots_;
  std::unordered_map<uint64_t, std::string> keys_;  // of roots, by id
  std::list<Node*> used_;                           // least recently used first
  std::vector<std::list<Node*>> held_;  // by group: nodes with a page of a sliding group, likewise
  mutable std::vector<Node*> path_;     // scratch of find_path
};

}  // namespace facet
