#include "chat/call_tool.h"

#include <algorithm>
#include <array>
#include <boost/json/serialize.hpp>
#include <boost/json/value_to.hpp>

#include "chat/declared_tools.h"
#include "chat/json_member.h"

namespace facet {
namespace {

namespace json = boost::json;

bool holds_text(const json::value* list, std::string_view text) {
  if (list == nullptr || !list->is_array()) return false;
  const json::array& all = list->get_array();
  return std::any_of(all.begin(), all.end(), [&](const json::value& each) {
    return each.is_string() && std::string_view(each.get_string()) == text;
  });
}

/// Empty, so no constraint, if one of the values is a list or an object.
std::vector<CallChoice> choices_of(const json::value& schema) {
  json::array values;
  if (const json::value* list = json_member(&schema, "enum"); list != nullptr && list->is_array()) {
    values = list->get_array();
  } else if (const json::value* only = json_member(&schema, "const")) {
    values.push_back(*only);
  }
  std::vector<CallChoice> choices;
  for (const json::value& value : values) {
    if (value.is_structured()) return {};
    const bool is_text = value.is_string();
    choices.push_back(
        {is_text, is_text ? json::value_to<std::string>(value) : json::serialize(value)});
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
                                                        const json::value* schema) {
  const json::value* properties = json_member(schema, "properties");
  if (properties == nullptr || !properties->is_object()) return std::nullopt;
  std::vector<CallParameter> all;
  for (const DeclaredParameter& declared : tool.parameters) {
    const bool spelt = !declared.name.empty() &&
                       std::all_of(declared.name.begin(), declared.name.end(), is_key_byte);
    const json::value* own = json_member(properties, declared.name);
    if (!spelt || own == nullptr) continue;
    all.push_back({declared.name, holds_text(json_member(schema, "required"), declared.name),
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

std::vector<CallTool> call_tools(const json::value& tools, ArgumentRule rule) {
  std::vector<CallTool> all;
  for (const DeclaredTool& declared : declared_tools(tools)) {
    CallTool tool{declared.name, std::nullopt};
    for (const json::value& each : tools.get_array()) {
      const json::value* function = json_member(&each, "function");
      const json::value* name = json_member(function, "name");
      if (name == nullptr || !name->is_string() || name->get_string() != declared.name) continue;
      const json::value* strict = json_member(function, "strict");
      const bool follows = rule == ArgumentRule::kDeclared ||
                           (strict != nullptr && strict->is_bool() && strict->get_bool());
      const json::value* schema = json_member(function, "parameters");
      if (follows) tool.parameters = parameters_of(declared, schema);
    }
    all.push_back(std::move(tool));
  }
  return all;
}

}  // namespace facet
