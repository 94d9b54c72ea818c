#include "chat/declared_tools.h"

#include <algorithm>
#include <utility>

#include "base/text.h"

namespace facet {
namespace {

void add_type(const Value& type, std::vector<std::string>& types) {
  if (type.is_string()) types.push_back(ascii_lower(type.string()));
}

DeclaredParameter read_parameter(std::string_view name, const Value& schema) {
  DeclaredParameter parameter{std::string(name), {}};
  const Value* type = schema.find("type");
  if (type == nullptr) return parameter;
  if (type->is_array()) {
    for (const Value& one : type->array()) add_type(one, parameter.types);
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

std::vector<DeclaredTool> declared_tools(const Value& tools) {
  std::vector<DeclaredTool> result;
  if (!tools.is_array()) return result;
  for (const Value& entry : tools.array()) {
    const Value* function = entry.find("function");
    const Value* name = find_in(function, "name");
    if (name == nullptr || !name->is_string()) continue;
    DeclaredTool tool{name->string(), {}};
    const Value* properties = find_in(find_in(function, "parameters"), "properties");
    if (properties != nullptr && properties->is_object()) {
      for (const Member& property : properties->object())
        tool.parameters.push_back(read_parameter(property.name, property.value));
    }
    result.push_back(std::move(tool));
  }
  return result;
}

}  // namespace facet
