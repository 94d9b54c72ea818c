#include "tokenizer/bpe.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <fmt/core.h>
#include <functional>
#include <queue>
#include <span>

#include "base/error.h"
#include "tokenizer/vocabulary.h"

namespace facet {
namespace {

/// Up to here looking through all pairs again after each merge beats keeping a queue.
constexpr size_t kShortWord = 48;
/// Places in a word are 32 bits wide, and a byte becomes three tokens at most.
constexpr size_t kMaxWord = size_t{1} << 30;

/// Merges in place; returns how many tokens are left, at the front of `tokens`.
size_t merge_short(const MergeTable& merges, std::span<TokenId> tokens) {
  std::array<int32_t, kShortWord> ranks{};  // ranks[i] is that of tokens i and i + 1
  size_t count = tokens.size();
  for (size_t i = 0; i + 1 < count; ++i) merges.prefetch(tokens[i], tokens[i + 1]);
  for (size_t i = 0; i + 1 < count; ++i) ranks[i] = merges.rank(tokens[i], tokens[i + 1]);
  while (count > 1) {
    const std::span<const int32_t> pairs(ranks.data(), count - 1);
    const auto best = std::min_element(pairs.begin(), pairs.end());
    if (*best == MergeTable::kNone) break;
    const auto at = static_cast<size_t>(best - pairs.begin());
    tokens[at] = merges.result(*best);
    for (size_t i = at + 1; i + 1 < count; ++i) {
      tokens[i] = tokens[i + 1];
      ranks[i - 1] = ranks[i];
    }
    --count;
    if (at > 0) ranks[at - 1] = merges.rank(tokens[at - 1], tokens[at]);
    if (at + 1 < count) ranks[at] = merges.rank(tokens[at], tokens[at + 1]);
  }
  return count;
}

/// The tokens of a long word as a linked list, and a queue of the pairs that merge.
class LongWord {
 public:
  LongWord(const MergeTable& merges, std::span<TokenId> tokens)
      : merges_(&merges), tokens_(tokens), links_(tokens.size()) {
    const auto count = static_cast<uint32_t>(tokens.size());
    std::vector<uint64_t> pairs;
    for (uint32_t i = 0; i < count; ++i) {
      links_[i] = {i - 1, i + 1, MergeTable::kNone};
      if (i + 1 == count) break;
      links_[i].rank = merges.rank(tokens[i], tokens[i + 1]);
      if (links_[i].rank != MergeTable::kNone) pairs.push_back(entry(i));
    }
    queue_ = Queue(std::greater<>(), std::move(pairs));
  }

  size_t merge() {
    while (!queue_.empty()) {
      const uint64_t top = queue_.top();
      queue_.pop();
      const auto at = static_cast<uint32_t>(top);
      // An entry is stale if its pair has changed since.
      if (static_cast<uint64_t>(links_[at].rank) == top >> 32) merge_at(at);
    }
    size_t count = 0;
    for (uint32_t i = 0; i < tokens_.size(); i = links_[i].next) tokens_[count++] = tokens_[i];
    return count;
  }

 private:
  using Queue = std::priority_queue<uint64_t, std::vector<uint64_t>, std::greater<>>;
  struct Link {
    uint32_t previous;  // of the first: UINT32_MAX
    uint32_t next;      // of the last: the number of tokens
    int32_t rank;       // of this token and the next; kNone for one that was merged away
  };

  uint64_t entry(uint32_t at) const { return static_cast<uint64_t>(links_[at].rank) << 32 | at; }

  void merge_at(uint32_t at) {
    Link& link = links_[at];
    tokens_[at] = merges_->result(link.rank);
    Link& gone = links_[link.next];
    link.next = gone.next;
    gone.rank = MergeTable::kNone;
    if (link.next < tokens_.size()) links_[link.next].previous = at;
    update(at);
    if (link.previous != UINT32_MAX) update(link.previous);
  }

  void update(uint32_t at) {
    Link& link = links_[at];
    link.rank = link.next < tokens_.size() ? merges_->rank(tokens_[at], tokens_[link.next])
                                           : MergeTable::kNone;
    if (link.rank != MergeTable::kNone) queue_.push(entry(at));
  }

  const MergeTable* merges_;
  std::span<TokenId> tokens_;
  std::vector<Link> links_;
  Queue queue_;  // rank, then place
};

}  // namespace

void encode_word(const Vocabulary& vocabulary, std::string_view text, std::vector<TokenId>& out) {
  if (text.size() > kMaxWord) {
    throw Error(ErrorCode::kBadInput, fmt::format("a text of {} bytes, over 1 GiB", text.size()));
  }
  const size_t begin = out.size();
  vocabulary.characters.append(text, out);
  const std::span<TokenId> tokens(out.data() + begin, out.size() - begin);
  const size_t count = tokens.size() <= kShortWord ? merge_short(vocabulary.merges, tokens)
                                                   : LongWord(vocabulary.merges, tokens).merge();
  out.resize(begin + count);
}

}  // namespace facet
