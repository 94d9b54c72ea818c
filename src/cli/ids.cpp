#include "cli/ids.h"

#include <charconv>
#include <fmt/core.h>

#include "base/error.h"
#include "base/text.h"

namespace facet::cli {

std::vector<int32_t> parse_ids(std::string_view text) {
  constexpr std::string_view kBlanks = " \t\r\n";
  std::vector<int32_t> ids;
  if (text.find_first_not_of(kBlanks) == std::string_view::npos) return ids;
  for (size_t at = 0; at <= text.size();) {
    const size_t comma = std::min(text.find(',', at), text.size());
    std::string_view piece = text.substr(at, comma - at);
    at = comma + 1;
    const size_t first = std::min(piece.find_first_not_of(kBlanks), piece.size());
    piece = piece.substr(first, piece.find_last_not_of(kBlanks) + 1 - first);
    int32_t id = 0;
    const auto [end, fault] = std::from_chars(piece.data(), piece.data() + piece.size(), id);
    if (fault != std::errc() || end != piece.data() + piece.size()) {
      throw Error(ErrorCode::kUsage,
                  fmt::format("token ids: '{}' is no id, wanted numbers separated by commas",
                              printable(piece, 40)));
    }
    ids.push_back(id);
  }
  return ids;
}

std::string format_ids(std::span<const int32_t> ids) {
  std::string text;
  for (const int32_t id : ids) {
    if (!text.empty()) text += ',';
    text += std::to_string(id);
  }
  return text;
}

void check_ids(std::span<const int32_t> ids, int32_t vocab_size) {
  if (ids.empty()) throw Error(ErrorCode::kBadInput, "no token ids given, wanted at least one");
  for (size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] >= 0 && ids[i] < vocab_size) continue;
    throw Error(ErrorCode::kBadInput,
                fmt::format("token id {} at place {}: wanted 0 to {}", ids[i], i, vocab_size - 1));
  }
}

}  // namespace facet::cli
