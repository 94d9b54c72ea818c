#pragma once

#include <cstddef>
#include <string_view>

namespace facet {

/// The bytes of the whitespace character at the start of `text`, or 0 if it starts with none.
/// Whitespace is what Python's str.strip removes: U+0009 to U+000D, U+001C to U+0020, U+0085,
/// U+00A0, U+1680, U+2000 to U+200A, U+2028, U+2029, U+202F, U+205F, U+3000.
size_t whitespace_length(std::string_view text);

/// `text` without whitespace at its start, and without that at both ends.
std::string_view without_leading_whitespace(std::string_view text);
std::string_view without_outer_whitespace(std::string_view text);

}  // namespace facet
