#include "cache/prefix_cache.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace facet {

uint64_t hash_page(uint64_t parent_id, std::span<const int32_t> tokens) {
  uint64_t hash = parent_id * 0x9E3779B97F4A7C15ULL;
  for (const int32_t token : tokens) {
    hash = (hash ^ static_cast<uint32_t>(token)) * 0xD6E8FEB86659FD93ULL;
    hash ^= hash >> 32;
  }
  return hash;
}

PrefixCache::PrefixCache(KvCache& cache, PageHash hash)
    : cache_(cache),
      page_size_(cache.groups().front().layout.page_size),
      groups_(cache.group_count()),
      hash_(hash),
      held_(static_cast<size_t>(groups_)) {
  const auto is_full = [](const KvGroupSpec& group) { return group.window == 0; };
  CHECK(std::any_of(cache.groups().begin(), cache.groups().end(), is_full),
        "no group that keeps every position: nothing says when a node may go");
  for (const KvGroupSpec& group : cache.groups()) {
    CHECK(group.layout.page_size == page_size_, "pages of {} and {} positions",
          group.layout.page_size, page_size_);
  }
}

PrefixCache::~PrefixCache() {
  for (const auto& [hash, node] : nodes_) {
    for (int32_t g = 0; g < groups_; ++g) {
      const PageId page = node->pages[static_cast<size_t>(g)];
      if (page != kNoPage) cache_.pages(g).give_back_cached(page);
    }
  }
}

uint64_t PrefixCache::root_of(std::string_view key) const {
  const auto found = roots_.find(std::string(key));
  return found == roots_.end() ? 0 : found->second.id;
}

PrefixCache::Node* PrefixCache::child_of(uint64_t parent_id,
                                         std::span<const int32_t> tokens) const {
  const auto [begin, end] = nodes_.equal_range(hash_(parent_id, tokens));
  for (auto it = begin; it != end; ++it) {
    Node& node = *it->second;
    if (node.parent_id == parent_id &&
        std::equal(tokens.begin(), tokens.end(), node.tokens.begin()))
      return &node;
  }
  return nullptr;
}

void PrefixCache::find_path(std::string_view key, std::span<const int32_t> tokens) const {
  path_.clear();
  uint64_t parent = root_of(key);
  const auto page = static_cast<size_t>(page_size_);
  for (size_t at = 0; parent != 0 && at + page <= tokens.size(); at += page) {
    Node* child = child_of(parent, tokens.subspan(at, page));
    if (child == nullptr) break;
    path_.push_back(child);
    parent = child->id;
  }
}

int32_t PrefixCache::first_seen(int32_t group, int32_t position) const {
  const int32_t window = cache_.groups()[static_cast<size_t>(group)].window;
  return window == 0 ? 0 : std::max(0, position - window + 1) / page_size_;
}

PrefixCache::Match PrefixCache::match(std::string_view key, std::span<const int32_t> tokens) const {
  Match match;
  if (tokens.empty()) return match;
  // The last token is always read: its logits are what comes next.
  find_path(key, tokens.first(tokens.size() - 1));
  const auto depth = static_cast<int32_t>(path_.size());
  match.known = depth * page_size_;
  // The deepest place before which no group misses a page of its window.
  int32_t taken = 0;
  std::vector<int32_t> unbroken_from(static_cast<size_t>(groups_), 0);
  for (int32_t d = 1; d <= depth; ++d) {
    bool whole = true;
    for (int32_t g = 0; g < groups_; ++g) {
      int32_t& from = unbroken_from[static_cast<size_t>(g)];
      if (path_[static_cast<size_t>(d - 1)]->pages[static_cast<size_t>(g)] == kNoPage) from = d;
      whole = whole && from <= first_seen(g, d * page_size_);
    }
    if (whole) taken = d;
  }
  match.length = taken * page_size_;
  match.pages.resize(static_cast<size_t>(groups_));
  for (int32_t g = 0; g < groups_; ++g) {
    std::vector<PageId>& table = match.pages[static_cast<size_t>(g)];
    table.assign(static_cast<size_t>(taken), kNoPage);
    for (int32_t i = first_seen(g, match.length); i < taken; ++i) {
      table[static_cast<size_t>(i)] = path_[static_cast<size_t>(i)]->pages[static_cast<size_t>(g)];
    }
  }
  return match;
}

int32_t PrefixCache::unlocked_pages(const Match& match, int32_t group) const {
  if (match.length == 0) return 0;
  const std::vector<PageId>& table = match.pages[static_cast<size_t>(group)];
  return static_cast<int32_t>(std::count_if(table.begin(), table.end(), [&](PageId page) {
    return page != kNoPage && cache_.pages(group).holders(page) == 0;
  }));
}

CacheSlot PrefixCache::lock(std::string_view key, std::span<const int32_t> tokens, Match match) {
  if (match.length == 0) return cache_.open();
  find_path(key, tokens.first(static_cast<size_t>(match.length)));
  touch_path();
  return cache_.open_with(std::move(match.pages), match.length);
}

void PrefixCache::touch_path() {
  for (auto it = path_.rbegin(); it != path_.rend(); ++it) {
    Node& node = **it;
    used_.splice(used_.end(), used_, node.place);
    for (int32_t g = 0; g < groups_; ++g) {
      std::list<Node*>& held = held_[static_cast<size_t>(g)];
      if (node.held[static_cast<size_t>(g)] != held.end())
        held.splice(held.end(), held, node.held[static_cast<size_t>(g)]);
    }
  }
}

PrefixCache::Node* PrefixCache::add_child(uint64_t root_id,
                                          Node* parent,
                                          std::span<const int32_t> tokens) {
  auto made = std::make_unique<Node>();
  Node& node = *made;
  node.id = next_id_++;
  node.parent = parent;
  node.parent_id = parent == nullptr ? root_id : parent->id;
  node.tokens.assign(tokens.begin(), tokens.end());
  node.pages.assign(static_cast<size_t>(groups_), kNoPage);
  node.place = used_.insert(used_.end(), &node);
  for (std::list<Node*>& held : held_) node.held.push_back(held.end());
  nodes_.emplace(hash_(node.parent_id, tokens), std::move(made));
  if (parent == nullptr) {
    ++roots_.at(keys_.at(root_id)).children;
  } else {
    ++parent->children;
  }
  return &node;
}

void PrefixCache::give_page(Node& node, int32_t group, PageId page) {
  node.pages[static_cast<size_t>(group)] = page;
  cache_.pages(group).hold_cached(page);
  if (cache_.groups()[static_cast<size_t>(group)].window == 0) return;
  std::list<Node*>& held = held_[static_cast<size_t>(group)];
  node.held[static_cast<size_t>(group)] = held.insert(held.end(), &node);
}

void PrefixCache::drop_page(Node& node, int32_t group) {
  PageId& page = node.pages[static_cast<size_t>(group)];
  cache_.pages(group).give_back_cached(page);
  page = kNoPage;
  std::list<Node*>& held = held_[static_cast<size_t>(group)];
  auto& place = node.held[static_cast<size_t>(group)];
  if (place == held.end()) return;
  held.erase(place);
  place = held.end();
}

void PrefixCache::insert(std::string_view key, std::span<const int32_t> tokens, CacheSlot slot) {
  const int32_t pages = static_cast<int32_t>(tokens.size()) / page_size_;
  if (pages == 0) return;
  find_path(key, tokens);
  uint64_t root_id = root_of(key);
  if (root_id == 0) {
    root_id = next_id_++;
    roots_.emplace(key, Root{root_id, 0});
    keys_.emplace(root_id, key);
  }
  const auto there = static_cast<int32_t>(path_.size());
  const auto page_tokens = static_cast<size_t>(page_size_);
  for (int32_t i = 0; i < pages; ++i) {
    if (i >= there) {
      Node* parent = path_.empty() ? nullptr : path_.back();
      path_.push_back(add_child(root_id, parent,
                                tokens.subspan(static_cast<size_t>(i) * page_tokens, page_tokens)));
    }
    Node& node = *path_[static_cast<size_t>(i)];
    for (int32_t g = 0; g < groups_; ++g) {
      const PageId mine = cache_.page(slot, g, i);
      const PageId theirs = node.pages[static_cast<size_t>(g)];
      if (mine == kNoPage || mine == theirs) continue;
      if (theirs != kNoPage) {
        cache_.replace(slot, g, i, theirs);
      } else if (i >= first_seen(g, std::max(0, pages - 1) * page_size_)) {
        give_page(node, g, mine);
      }
    }
  }
  touch_path();
}

bool PrefixCache::is_locked(const Node& node) const {
  for (int32_t g = 0; g < groups_; ++g) {
    const PageId page = node.pages[static_cast<size_t>(g)];
    if (page != kNoPage && cache_.pages(g).holders(page) > 0) return true;
  }
  return false;
}

void PrefixCache::erase(Node& leaf) {
  for (int32_t g = 0; g < groups_; ++g) {
    if (leaf.pages[static_cast<size_t>(g)] != kNoPage) drop_page(leaf, g);
  }
  used_.erase(leaf.place);
  if (leaf.parent != nullptr) {
    --leaf.parent->children;
  } else if (Root& root = roots_.at(keys_.at(leaf.parent_id)); --root.children == 0) {
    const auto key = keys_.find(leaf.parent_id);
    roots_.erase(key->second);
    keys_.erase(key);
  }
  const auto [begin, end] = nodes_.equal_range(hash_(leaf.parent_id, leaf.tokens));
  nodes_.erase(std::find_if(begin, end, [&](const auto& it) { return it.second.get() == &leaf; }));
}

void PrefixCache::evict(int32_t group, int32_t wanted) {
  if (cache_.groups()[static_cast<size_t>(group)].window != 0) {
    evict_sliding(group, wanted);
  } else {
    evict_leaves(group, wanted);
  }
}

void PrefixCache::evict_sliding(int32_t group, int32_t wanted) {
  const PageAllocator& pages = cache_.pages(group);
  std::list<Node*>& held = held_[static_cast<size_t>(group)];
  while (pages.free_pages() < wanted && pages.cached_alone() > 0) {
    Node& oldest = *held.front();
    if (pages.holders(oldest.pages[static_cast<size_t>(group)]) > 0) {
      held.splice(held.end(), held, held.begin());  // in use: as good as used now
    } else {
      drop_page(oldest, group);
    }
  }
}

void PrefixCache::evict_leaves(int32_t group, int32_t wanted) {
  // A page that the cache alone holds lies above such pages only, so while there is one, there is
  // a leaf to be found.
  const PageAllocator& pages = cache_.pages(group);
  size_t passed = 0;
  while (pages.free_pages() < wanted && pages.cached_alone() > 0) {
    Node& oldest = *used_.front();
    if (oldest.children > 0 || is_locked(oldest)) {
      CHECK(++passed <= used_.size(), "group {}: no leaf to evict, {} pages cached alone", group,
            pages.cached_alone());
      used_.splice(used_.end(), used_, used_.begin());
    } else {
      erase(oldest);
      passed = 0;
    }
  }
}

void PrefixCache::clear() {
  for (int32_t g = 0; g < groups_; ++g) evict(g, cache_.pages(g).count());
  CHECK(nodes_.empty(), "a sequence holds cached pages");
}

void PrefixCache::check_integrity() const {
  std::vector<int64_t> held(static_cast<size_t>(groups_), 0);
  std::unordered_map<const Node*, int32_t> children;
  for (const auto& [hash, node] : nodes_) {
    if (node->parent != nullptr) ++children[node->parent];
    for (int32_t g = 0; g < groups_; ++g) {
      const PageId page = node->pages[static_cast<size_t>(g)];
      const bool full = cache_.groups()[static_cast<size_t>(g)].window == 0;
      CHECK(page != kNoPage || !full, "node {} has no page in group {}", node->id, g);
      if (page == kNoPage) continue;
      ++held[static_cast<size_t>(g)];
      CHECK(cache_.pages(g).is_cached(page), "group {} page {} is not counted as cached", g,
            to_index(page));
      const bool locked_below = full && cache_.pages(g).holders(page) > 0;
      CHECK(!locked_below || node->parent == nullptr ||
                cache_.pages(g).holders(node->parent->pages[static_cast<size_t>(g)]) > 0,
            "node {} is locked, its parent is not", node->id);
    }
  }
  for (const auto& [hash, node] : nodes_) {
    const auto found = children.find(node.get());
    CHECK(node->children == (found == children.end() ? 0 : found->second), "node {}: {} children",
          node->id, node->children);
  }
  CHECK(used_.size() == nodes_.size(), "{} of {} nodes in order of use", used_.size(),
        nodes_.size());
  for (int32_t g = 0; g < groups_; ++g) {
    int64_t cached = 0;
    for (int32_t p = 0; p < cache_.pages(g).count(); ++p) {
      if (cache_.pages(g).is_cached(PageId{p})) ++cached;
    }
    CHECK(cached == held[static_cast<size_t>(g)], "group {}: {} pages cached, {} in nodes", g,
          cached, held[static_cast<size_t>(g)]);
  }
}

}  // namespace facet
