#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "chat/value.h"

namespace facet {

/// A top-level parameter of a declared function. `types` holds the lower-cased names under `type`
/// (a string or a list); it is empty if the schema does not say.
struct DeclaredParameter {
  std::string name;
  std::vector<std::string> types;

  bool allows(std::string_view type) const;
};

/// A function the request declared.
struct DeclaredTool {
  std::string name;
  std::vector<DeclaredParameter> parameters;

  /// The parameter called `name`, or nullptr.
  const DeclaredParameter* parameter(std::string_view name) const;
};

/// Reads a request's `tools`: a list of {"type":"function","function":{"name","parameters"}}. Makes
/// no demands: what does not have that shape is left out, since checking the request is done where
/// it comes in.
std::vector<DeclaredTool> declared_tools(const Value& tools);

}  // namespace facet
