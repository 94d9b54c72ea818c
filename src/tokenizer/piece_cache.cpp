#include "tokenizer/piece_cache.h"

#include <algorithm>
#include <cstring>

namespace facet {

PieceCache::Query PieceCache::query(std::string_view word) const {
  Query result;
  result.word_ = word;
  if (word.size() > kMaxBytes) {
    result.place_ = kNowhere;
    return result;
  }
  std::array<char, sizeof(result.key_)> bytes{};
  std::copy(word.begin(), word.end(), bytes.begin());
  bytes.back() = static_cast<char>(word.size());
  std::memcpy(result.key_.data(), bytes.data(), bytes.size());
  uint64_t hash = 0;
  for (const uint64_t part : result.key_) {
    hash = (hash ^ part) * 0x9E3779B97F4A7C15;
    hash ^= hash >> 32;
  }
  result.place_ = hash % kSlots;
  __builtin_prefetch(&slots_[result.place_]);
  return result;
}

bool PieceCache::append(const Query& query, std::vector<TokenId>& out) const {
  if (query.place_ == kNowhere) return false;
  const Slot& slot = slots_[query.place_];
  if (slot.count == 0 || slot.key != query.key_) return false;
  for (int32_t i = 0; i < slot.count; ++i) out.push_back(slot.tokens[static_cast<size_t>(i)]);
  return true;
}

void PieceCache::keep(const Query& query, std::span<const TokenId> tokens) {
  if (query.place_ == kNowhere || tokens.size() > kMaxTokens || tokens.empty()) return;
  Slot& slot = slots_[query.place_];
  slot.key = query.key_;
  slot.count = static_cast<int32_t>(tokens.size());
  std::copy(tokens.begin(), tokens.end(), slot.tokens.begin());
}

}  // namespace facet
