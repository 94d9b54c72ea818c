#pragma once

#include <optional>
#include <string>
#include <vector>

#include "chat/value.h"

namespace facet {

/// How far the arguments of a constrained call follow the declared parameters (server-api 5.4).
enum class ArgumentRule {
  kFree,      ///< the syntax alone
  kDeclared,  ///< of top-level parameters: names, required ones, scalar types, enums
};

/// One value that an enum allows, as a call spells it.
struct CallChoice {
  bool is_text = false;  ///< stands between two <|"|>
  std::string spelling;
};

/// A top-level parameter as constrained sampling sees it.
struct CallParameter {
  std::string name;
  bool required = false;
  std::vector<std::string> types;   ///< lower-cased JSON schema types; empty: any
  std::vector<CallChoice> choices;  ///< empty: any value of `types`

  bool allows(std::string_view type) const;
};

/// A function that may be called.
struct CallTool {
  std::string name;
  /// nullopt: any keys and values. Parameters whose names a call cannot spell are left out.
  std::optional<std::vector<CallParameter>> parameters;
};

/// Reads a request's `tools`, which have been checked. With kDeclared every tool with parameters
/// follows them; with kFree those do that say "strict": true.
std::vector<CallTool> call_tools(const Value& tools, ArgumentRule rule);

/// May a key hold this byte? A key is bare text (server-api 14, the grammar for constrained calls).
bool is_key_byte(char byte);

}  // namespace facet
