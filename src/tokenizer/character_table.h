#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "base/ids.h"

namespace facet {

class EntryTable;

/// What a text starts as, before any merge: one token per character, or per byte where the
/// vocabulary lacks the character.
class CharacterTable {
 public:
  /// Entries for which `excluded[id]` holds stand for no character. Throws Error{kBadCheckpoint}
  /// if a byte token is missing.
  CharacterTable(const EntryTable& entries, const std::vector<bool>& excluded);

  /// Appends the tokens of `text`; a space counts as U+2581, bytes that are not UTF-8 become byte
  /// tokens.
  void append(std::string_view text, std::vector<TokenId>& out) const;

 private:
  static constexpr uint32_t kPageSize = 256;

  TokenId& at(uint32_t code_point);
  TokenId find(uint32_t code_point) const {
    return tokens_[page_of_[code_point / kPageSize] * kPageSize + code_point % kPageSize];
  }

  // tokens_ holds pages of 256 characters; page 0 is for all those without any.
  std::array<uint16_t, 0x110000 / kPageSize> page_of_{};
  std::vector<TokenId> tokens_;
  std::array<TokenId, 256> byte_tokens_{};
};

}  // namespace facet
