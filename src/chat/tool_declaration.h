#pragma once

#include <string_view>
#include <vector>

#include "chat/prompt_items.h"
#include "chat/value.h"

namespace facet {

/// How keys of objects are written: `<|"|>key<|"|>` or bare.
enum class KeyStyle { kQuoted, kBare };

/// An object's members by lower-cased name in code point order; equal ones in given order.
std::vector<const Member*> sorted_members(const Value::Object& object);

/// A JSON value in the model's own syntax, members sorted. `null_word` is what null is written as.
void write_value(PromptWriter& out,
                 const Value& value,
                 KeyStyle keys,
                 std::string_view null_word = "null");

/// `declaration:NAME{…}` of one tool of the request's list. Braces that the published template
/// leaves open stay open. Throws Error{kBadInput} naming the field if `tool` is not of the shape
/// {"function": {"name": string, "parameters": object…}} or a schema cannot be written.
void write_declaration(PromptWriter& out, const Value& tool, std::string_view null_word);

}  // namespace facet
