#include "chat/declared_tools.h"

#include <algorithm>
#include <boost/json/value_to.hpp>
#include <utility>

#include "chat/json_member.h"

namespace facet {
namespace {

namespace json = boost::json;

void add_type(const json::value& type, std::vector<std::string>& types) {
  const json::string* text = type.if_string();
  if (text == nullptr) return;
  std::string name(text->data(), text->size());
  for (char& c : name) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  types.push_back(std::move(name));
}

DeclaredParameter read_parameter(std::string_view name, const json::value& schema) {
  DeclaredParameter parameter{std::string(name), {}};
  const json::value* type = json_member(&schema, "type");
  if (type == nullptr) return parameter;
  if (const json::array* list = type->if_array()) {
    for (const json::value& one : *list) add_type(one, parameter.types);
  } else {
    add_type(*type, parameter.types);
  }
  return parameter;
}

}  // namespace

bool DeclaredParameter::allows(std::string_view type) const {
  return std::find(types.begin(), types.end(), type) != types.end();
}

const DeclaredParameter* DeclaredTool::parameter(std::string_view wanted) const {
  for (const DeclaredParameter& one : parameters) {
    if (one.name == wanted) return &one;
  }
  return nullptr;
}

std::vector<DeclaredTool> declared_tools(const json::value& tools) {
  std::vector<DeclaredTool> result;
  const json::array* list = tools.if_array();
  if (list == nullptr) return result;
  for (const json::value& entry : *list) {
    const json::value* function = json_member(&entry, "function");
    const json::value* name = json_member(function, "name");
    if (name == nullptr || !name->is_string()) continue;
    DeclaredTool tool{json::value_to<std::string>(*name), {}};
    const json::value* properties = json_member(json_member(function, "parameters"), "properties");
    if (properties != nullptr && properties->is_object()) {
      for (const auto& [key, schema] : properties->get_object()) {
        tool.parameters.push_back(read_parameter(key, schema));
      }
    }
    result.push_back(std::move(tool));
  }
  return result;
}

}  // namespace facet
