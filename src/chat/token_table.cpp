#include "chat/token_table.h"

#include <algorithm>
#include <string_view>

#include "chat/call_tool.h"

namespace facet {

TokenTable::TokenTable(const Tokenizer& tokenizer)
    : tokenizer_(&tokenizer),
      keys_(tokenizer.size()),
      text_(tokenizer.size()),
      line_feed_(tokenizer.encode("\n").front()) {
  std::array<size_t, 257> count{};
  for (int32_t index = 0; index < tokenizer.size(); ++index) {
    const TokenId id{index};
    const std::string_view bytes = tokenizer.bytes_of(id);
    if (bytes.empty()) continue;  // a control token
    ++count[static_cast<uint8_t>(bytes.front()) + size_t{1}];
    text_.add(id);
    const auto other = std::find_if_not(bytes.begin(), bytes.end(), is_key_byte);
    if (other == bytes.end()) {
      keys_.add(id);
    } else if (*other == ':') {
      key_ends_.push_back(id);
    }
  }
  for (size_t byte = 0; byte < 256; ++byte) begin_[byte + 1] = begin_[byte] + count[byte + 1];
  std::array<size_t, 257> next = begin_;
  sorted_.resize(begin_[256]);
  for (int32_t index = 0; index < tokenizer.size(); ++index) {
    const std::string_view bytes = tokenizer.bytes_of(TokenId{index});
    if (!bytes.empty()) sorted_[next[static_cast<uint8_t>(bytes.front())]++] = TokenId{index};
  }
}

std::span<const TokenId> TokenTable::beginning_with(char byte) const {
  const auto index = static_cast<uint8_t>(byte);
  return std::span(sorted_).subspan(begin_[index], begin_[index + size_t{1}] - begin_[index]);
}

}  // namespace facet
