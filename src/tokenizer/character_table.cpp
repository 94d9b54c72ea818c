#include "tokenizer/character_table.h"

#include <fmt/core.h>

#include "base/error.h"
#include "base/text.h"
#include "tokenizer/entry_table.h"

namespace facet {
namespace {

constexpr TokenId kNoToken{-1};
constexpr uint32_t kSpaceMark = 0x2581;
constexpr std::string_view kSpaceMarkText = "\u2581";

/// `length` is that of the well-formed character at the start of `text`.
uint32_t code_point_of(std::string_view text, size_t length) {
  const auto byte = [text](size_t i) {
    return static_cast<uint32_t>(static_cast<uint8_t>(text[i]));
  };
  switch (length) {
    case 1:
      return byte(0);
    case 2:
      return (byte(0) & 0x1F) << 6 | (byte(1) & 0x3F);
    case 3:
      return (byte(0) & 0x0F) << 12 | (byte(1) & 0x3F) << 6 | (byte(2) & 0x3F);
    default:
      return (byte(0) & 0x07) << 18 | (byte(1) & 0x3F) << 12 | (byte(2) & 0x3F) << 6 |
             (byte(3) & 0x3F);
  }
}

}  // namespace

CharacterTable::CharacterTable(const EntryTable& entries, const std::vector<bool>& excluded)
    : tokens_(kPageSize, kNoToken) {
  byte_tokens_.fill(kNoToken);
  for (int32_t id = 0; id < entries.size(); ++id) {
    const std::string_view piece = entries.piece(id);
    if (const int32_t byte = byte_of_piece(piece); byte >= 0) {
      byte_tokens_[static_cast<size_t>(byte)] = TokenId{id};
    }
    if (piece.size() > 4 || excluded[static_cast<size_t>(id)]) continue;
    const size_t length = utf8_length(piece);
    if (length > 0 && length == piece.size()) at(code_point_of(piece, length)) = TokenId{id};
  }
  // Spaces never reach the merges: the normaliser makes each the mark.
  if (const TokenId mark = find(kSpaceMark); mark != kNoToken) at(' ') = mark;
  for (size_t byte = 0; byte < byte_tokens_.size(); ++byte) {
    if (byte_tokens_[byte] == kNoToken) {
      throw Error(ErrorCode::kBadCheckpoint,
                  fmt::format("model.vocab lacks the byte token <0x{:02X}>", byte));
    }
  }
}

TokenId& CharacterTable::at(uint32_t code_point) {
  uint16_t& page = page_of_[code_point / kPageSize];
  if (page == 0) {
    page = static_cast<uint16_t>(tokens_.size() / kPageSize);
    tokens_.resize(tokens_.size() + kPageSize, kNoToken);
  }
  return tokens_[page * kPageSize + code_point % kPageSize];
}

void CharacterTable::append(std::string_view text, std::vector<TokenId>& out) const {
  while (!text.empty()) {
    const size_t length = utf8_length(text);
    const TokenId token = length == 0 ? kNoToken : find(code_point_of(text, length));
    std::string_view whole = text.substr(0, length == 0 ? 1 : length);
    text.remove_prefix(whole.size());
    if (token != kNoToken) {
      out.push_back(token);
      continue;
    }
    if (whole == " ") whole = kSpaceMarkText;
    for (const char c : whole) out.push_back(byte_tokens_[static_cast<uint8_t>(c)]);
  }
}

}  // namespace facet
