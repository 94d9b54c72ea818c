#include "tokenizer/piece_cache.h"

#include <algorithm>
#include <cstring>

namespace facet {

PieceCache::Key PieceCache::key_of(std::string_view word) {
  std::array<char, sizeof(Key)> bytes{};
  std::memcpy(bytes.data(), word.data(), word.size());
  bytes.back() = static_cast<char>(word.size());
  Key key;
  std::memcpy(key.data(), bytes.data(), sizeof(key));
  return key;
}

size_t PieceCache::place_of(const Key& key) {
  uint64_t hash = 0;
  for (const uint64_t part : key) {
    hash = (hash ^ part) * 0x9E3779B97F4A7C15;
    hash ^= hash >> 32;
  }
  return hash % kSlots;
}

bool PieceCache::append(std::string_view word, std::vector<TokenId>& out) const {
  if (word.size() > kMaxBytes) return false;
  const Key key = key_of(word);
  const Slot& slot = slots_[place_of(key)];
  if (slot.count == 0 || slot.key != key) return false;
  out.insert(out.end(), slot.tokens.begin(), slot.tokens.begin() + slot.count);
  return true;
}

void PieceCache::keep(std::string_view word, std::span<const TokenId> tokens) {
  if (word.size() > kMaxBytes || tokens.size() > kMaxTokens || tokens.empty()) return;
  const Key key = key_of(word);
  Slot& slot = slots_[place_of(key)];
  slot.key = key;
  slot.count = static_cast<int32_t>(tokens.size());
  std::copy(tokens.begin(), tokens.end(), slot.tokens.begin());
}

}  // namespace facet
