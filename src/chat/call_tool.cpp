#include "chat/call_tool.h"

#include <algorithm>
#include <array>

#include "chat/declared_tools.h"

namespace facet {
namespace {

bool holds_text(const Value* list, std::string_view text) {
  if (list == nullptr || !list->is_array()) return false;
  return std::any_of(list->array().begin(), list->array().end(),
                     [&](const Value& each) { return each.is_string() && each.string() == text; });
}

/// A scalar that is no text, as JSON and calls spell it.
std::string spelling_of(const Value& value) {
  if (value.kind() == Value::Kind::kNumber) return value.number().text;
  if (value.kind() == Value::Kind::kBool) return value.boolean() ? "true" : "false";
  return "null";
}

/// Empty, so no constraint, if one of the values is a list or an object.
std::vector<CallChoice> choices_of(const Value& schema) {
  Value::Array values;
  if (const Value* list = schema.find("enum"); list != nullptr && list->is_array()) {
    values = list->array();
  } else if (const Value* only = schema.find("const")) {
    values.push_back(*only);
  }
  std::vector<CallChoice> choices;
  for (const Value& value : values) {
    if (value.is_array() || value.is_object()) return {};
    const bool is_text = value.is_string();
    choices.push_back({is_text, is_text ? value.string() : spelling_of(value)});
  }
  return choices;
}

/// Nothing, so no constraint, if a type is not one of JSON schema's.
std::vector<std::string> types_of(const DeclaredParameter& declared) {
  constexpr std::array<std::string_view, 7> kTypes = {"string", "number", "integer", "boolean",
                                                      "null",   "array",  "object"};
  const bool known =
      std::all_of(declared.types.begin(), declared.types.end(), [&](const std::string& type) {
        return std::find(kTypes.begin(), kTypes.end(), type) != kTypes.end();
      });
  return known ? declared.types : std::vector<std::string>();
}

/// nullopt if the schema does not list properties.
std::optional<std::vector<CallParameter>> parameters_of(const DeclaredTool& tool,
                                                        const Value* schema) {
  const Value* properties = find_in(schema, "properties");
  if (properties == nullptr || !properties->is_object()) return std::nullopt;
  std::vector<CallParameter> all;
  for (const DeclaredParameter& declared : tool.parameters) {
    const bool spelt = !declared.name.empty() &&
                       std::all_of(declared.name.begin(), declared.name.end(), is_key_byte);
    const Value* own = find_in(properties, declared.name);
    if (!spelt || own == nullptr) continue;
    all.push_back({declared.name, holds_text(find_in(schema, "required"), declared.name),
                   types_of(declared), choices_of(*own)});
  }
  return all;
}

}  // namespace

bool CallParameter::allows(std::string_view type) const {
  return types.empty() || std::find(types.begin(), types.end(), type) != types.end();
}

bool is_key_byte(char byte) {
  constexpr std::string_view kNot = ":{}[],\" \t\n\r\v\f";
  return kNot.find(byte) == std::string_view::npos;
}

std::vector<CallTool> call_tools(const Value& tools, ArgumentRule rule) {
  std::vector<CallTool> all;
  for (const DeclaredTool& declared : declared_tools(tools)) {
    CallTool tool{declared.name, std::nullopt};
    for (const Value& each : tools.array()) {
      const Value* function = each.find("function");
      const Value* name = find_in(function, "name");
      if (name == nullptr || !name->is_string() || name->string() != declared.name) continue;
      const Value* strict = find_in(function, "strict");
      const bool follows =
          rule == ArgumentRule::kDeclared ||
          (strict != nullptr && strict->kind() == Value::Kind::kBool && strict->boolean());
      const Value* schema = find_in(function, "parameters");
      if (follows) tool.parameters = parameters_of(declared, schema);
    }
    all.push_back(std::move(tool));
  }
  return all;
}

}  // namespace facet
