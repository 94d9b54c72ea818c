#include "tokenizer/entry_table.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <fmt/core.h>

#include "base/error.h"
#include "base/text.h"

namespace facet {
namespace {

constexpr std::string_view kSpaceMark = "\u2581";
/// Entries whose look-ups wait for memory together.
constexpr int32_t kGroup = 16;

int32_t hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

void append_decoded(std::string& out, std::string_view piece) {
  if (const int32_t byte = byte_of_piece(piece); byte >= 0) {
    out += static_cast<char>(byte);
    return;
  }
  for (;;) {
    // The first byte of the mark is rare; std::string_view::find of one byte is memchr.
    size_t mark = piece.find(kSpaceMark.front());
    while (mark != std::string_view::npos && !piece.substr(mark).starts_with(kSpaceMark)) {
      mark = piece.find(kSpaceMark.front(), mark + 1);
    }
    out += piece.substr(0, mark);
    if (mark == std::string_view::npos) return;
    out += ' ';
    piece.remove_prefix(mark + kSpaceMark.size());
  }
}

uint64_t mix(uint64_t value) {
  value *= 0x9E3779B97F4A7C15;
  return value ^ (value >> 32);
}

template <typename Word>
Word load(const char* from) {
  Word word = 0;
  std::memcpy(&word, from, sizeof(word));
  return word;
}

}  // namespace

int32_t byte_of_piece(std::string_view piece) {
  if (piece.size() != 6 || !piece.starts_with("<0x") || piece[5] != '>') return -1;
  const int32_t high = hex_digit(piece[3]);
  const int32_t low = hex_digit(piece[4]);
  return high < 0 || low < 0 ? -1 : high * 16 + low;
}

EntryTable::EntryTable(std::span<const std::string_view> pieces) {
  size_t total = 0;
  for (const std::string_view piece : pieces) total += piece.size();
  pieces_.reserve(total);
  bytes_.reserve(total);
  piece_ends_.reserve(pieces.size() + 1);
  byte_ends_.reserve(pieces.size() + 1);
  piece_ends_.push_back(0);
  byte_ends_.push_back(0);
  for (const std::string_view piece : pieces) {
    pieces_ += piece;
    append_decoded(bytes_, piece);
    piece_ends_.push_back(static_cast<uint32_t>(pieces_.size()));
    byte_ends_.push_back(static_cast<uint32_t>(bytes_.size()));
  }
}

uint64_t PieceIndex::hash(std::string_view piece) {
  const char* const data = piece.data();
  const size_t size = piece.size();
  if (size < 4) {
    uint64_t word = size;
    for (const char c : piece) word = word << 8 | static_cast<uint8_t>(c);
    return mix(mix(word));
  }
  // Two words that may overlap hold what is left over.
  if (size < 8) return mix(mix(size ^ load<uint32_t>(data)) ^ load<uint32_t>(data + size - 4));
  uint64_t result = size;
  for (size_t at = 0; at + 8 < size; at += 8) result = mix(result ^ load<uint64_t>(data + at));
  return mix(mix(result ^ load<uint64_t>(data + size - 8)));
}

PieceIndex::PieceIndex(const EntryTable& entries)
    : pool_(entries.pool()),
      slots_(std::bit_ceil(static_cast<size_t>(entries.size()) * 3 / 2 + 1)),
      mask_(slots_.size() - 1) {
  std::array<uint64_t, kGroup> hashes{};
  for (int32_t begin = 0; begin < entries.size(); begin += kGroup) {
    const int32_t end = std::min(begin + kGroup, entries.size());
    for (int32_t id = begin; id < end; ++id) {
      uint64_t& h = hashes[static_cast<size_t>(id - begin)];
      h = hash(entries.piece(id));
      prefetch(h);
    }
    for (int32_t id = begin; id < end; ++id) {
      insert(id, entries.piece(id), hashes[static_cast<size_t>(id - begin)]);
    }
  }
}

void PieceIndex::insert(int32_t id, std::string_view piece, uint64_t hash) {
  const Slot slot{static_cast<uint32_t>(hash >> 32), id,
                  static_cast<uint32_t>(piece.data() - pool_), static_cast<uint32_t>(piece.size())};
  uint64_t at = hash & mask_;
  for (; slots_[at].id != kUnknown; at = (at + 1) & mask_) {
    if (!holds(slots_[at], piece, hash)) continue;
    throw Error(ErrorCode::kBadCheckpoint,
                fmt::format("ids {} and {} are both {}", slots_[at].id, id, printable(piece, 80)));
  }
  slots_[at] = slot;
}

bool PieceIndex::holds(const Slot& slot, std::string_view piece, uint64_t hash) const {
  return slot.tag == hash >> 32 && std::string_view(pool_ + slot.offset, slot.length) == piece;
}

int32_t PieceIndex::find(std::string_view piece, uint64_t hash) const {
  for (uint64_t at = hash & mask_;; at = (at + 1) & mask_) {
    const Slot& slot = slots_[at];
    if (slot.id == kUnknown || holds(slot, piece, hash)) return slot.id;
  }
}

}  // namespace facet
