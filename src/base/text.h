#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace facet {

/// `text` on one line, fit for a terminal and a log: control characters and bytes that are not
/// UTF-8 become \xNN, and more than `limit` bytes are cut with "…".
std::string printable(std::string_view text, size_t limit = 200);

/// "17.6 GB", "512.0 MB", "1.2 kB", "37 B": decimal units, one decimal place.
std::string human_bytes(int64_t bytes);

/// A to Z as a to z; other bytes as they are.
std::string ascii_lower(std::string_view text);

/// The length of the well-formed UTF-8 character at the start of `text` (1 to 4), or 0 if there is
/// none (ill-formed, cut off or empty).
size_t utf8_length(std::string_view text);

/// Appends `code_point` (a Unicode scalar value) to `out` as UTF-8.
void append_utf8(std::string& out, uint32_t code_point);

}  // namespace facet
