#pragma once

#include <string>
#include <string_view>

namespace facet {

/// Full Unicode case mapping of UTF-8 text, as Python's str.lower and str.upper: one character may
/// become several, and a capital sigma at the end of a word becomes a final one. Bytes that are not
/// UTF-8 stay as they are. Time is O(n).
std::string to_lower(std::string_view text);
std::string to_upper(std::string_view text);

}  // namespace facet
