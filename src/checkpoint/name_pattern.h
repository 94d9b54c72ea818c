#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace facet {

/// EXC-2 and SGLang's style: `*` matches any run of characters, dots included; anchored at both
/// ends. Takes at most |pattern| * |name| steps.
bool glob_match(std::string_view pattern, std::string_view name);

/// EXC-3: the module's name and, if it starts with one of `model.language_model.`,
/// `language_model.model.` and `model.`, the names with the other two in its place.
std::vector<std::string> module_aliases(std::string_view module);

/// The one of those aliases that starts with `model.` (else the name itself): equal for two names
/// exactly if one is an alias of the other.
std::string canonical_module(std::string_view module);

/// Whether some text of a fixed set is a prefix of a given one, in O(log n) comparisons.
class PrefixSet {
 public:
  PrefixSet() = default;
  explicit PrefixSet(std::vector<std::string> prefixes);
  bool has_prefix_of(std::string_view text) const;

 private:
  std::vector<std::string> sorted_;  // no element is a prefix of another
};

/// A list of ModelOpt module patterns (`exclude_modules`, `ignore`), tried against a module and its
/// aliases (EXC-1…EXC-3):
///   a.b     the module a.b, all below it, and every module whose last components are a.b;
///   a       every module with the component `a` ("mlp" is not in "mlp2");
///   a.*b*   a glob over the whole name. Here `a.*` holds `a` too, and `*.a` as well, because that
///           is what their writers mean.
class ModulePatterns {
 public:
  ModulePatterns() = default;
  explicit ModulePatterns(const std::vector<std::string>& patterns);
  bool matches(std::string_view module) const;

 private:
  bool matches_one(std::string_view name) const;

  PrefixSet heads_;                      // compared with name + "."
  PrefixSet tails_;                      // compared with "." + name, both written backwards
  std::vector<std::string> components_;  // sorted
  std::vector<std::string> globs_;       // all that heads_ and tails_ cannot express
};

}  // namespace facet
