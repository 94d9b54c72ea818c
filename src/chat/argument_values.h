#pragma once

#include <string>
#include <string_view>

#include "chat/declared_tools.h"

namespace facet {

/// Appends `text` (UTF-8) to `json` with JSON's escapes: \" \\ \b \f \n \r \t, other control
/// characters as lower-case \u00xx, everything else unchanged. Writes no quotes around it.
void append_escaped(std::string& json, std::string_view text);

/// Is `text` a number as JSON spells them, and one that parse_value() takes?
bool is_json_number(std::string_view text);

/// The string that `text`, found between two '"', stands for: JSON's escapes undone, or if it is
/// not a JSON string, the characters as they are.
std::string unquoted(std::string_view text);

/// The JSON of bare text (outer whitespace is ignored): a number with its own digits, a literal
/// (also Python's), else a string. `parameter` (or nullptr) is the declaration; where it allows
/// strings only, the text stays one.
std::string bare_value(std::string_view text, const DeclaredParameter* parameter);

/// May a string given for `parameter` (or nullptr) stand for a value of another type? So it is if
/// its declaration names types, and `string` is not among them.
bool may_be_respelled(const DeclaredParameter* parameter);

/// The JSON of a string: of what it spells, if `parameter` may be respelled and allows that type;
/// else the string.
std::string string_value(std::string_view text, const DeclaredParameter* parameter);

}  // namespace facet
