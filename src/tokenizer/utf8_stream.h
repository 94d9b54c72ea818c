#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace facet {

/// Is the start of a text a whole character, one that the text's end cuts off, or neither?
enum class Utf8State { kWhole, kUnfinished, kIllFormed };

struct Utf8Head {
  size_t length;  ///< of the character, or of the maximal subpart (Unicode 15, section 3.9)
  Utf8State state;
};

/// What stands at the start of `text`, which must not be empty.
Utf8Head utf8_head(std::string_view text);

/// Appends `bytes` to `out` as well-formed UTF-8, one U+FFFD per ill-formed maximal subpart.
/// `held` is what earlier calls left unfinished; it goes first and then holds what is unfinished
/// now.
void append_wellformed(std::string& out, std::string& held, std::string_view bytes);

/// Ends the character in `held`: U+FFFD if there is any, and `held` is empty.
void flush_unfinished(std::string& out, std::string& held);

}  // namespace facet
