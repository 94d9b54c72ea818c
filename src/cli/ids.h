#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace facet::cli {

/// "2,5,9" -> {2, 5, 9}; blanks around numbers are allowed, an empty text is no ids. Throws
/// Error{kUsage} naming the piece that is no id.
std::vector<int32_t> parse_ids(std::string_view text);
std::string format_ids(std::span<const int32_t> ids);

/// Throws Error{kBadInput} if there are no ids, or naming the first that is not in [0, vocab_size).
void check_ids(std::span<const int32_t> ids, int32_t vocab_size);

}  // namespace facet::cli
