#pragma once

#include <regex>
#include <string>
#include <string_view>

namespace facet {

/// A `re:` entry of compressed-tensors (CT-1): matches if the expression matches at the start of
/// the name, as Python's re.match. The syntax is ECMAScript's, without back-references, which
/// differs from Python's only in what names do not need (named groups, inline flags, \Z).
class NameRegex {
 public:
  static constexpr size_t kMaxPattern = 1024;  ///< bytes
  static constexpr size_t kMaxName = 512;      ///< bytes

  /// Throws Error{kBadCheckpoint} that says what is wrong with `pattern`.
  explicit NameRegex(const std::string& pattern);
  /// Throws Error{kBadCheckpoint} if `name` is longer than kMaxName.
  bool matches(std::string_view name) const;

 private:
  std::string needle_;  // stands in every matching name; found faster than a regex fails
  std::regex regex_;
};

/// The longest run of characters that every match of `pattern` must hold, as far as that can be
/// told from outside its groups; empty if unknown.
std::string required_text(std::string_view pattern);

}  // namespace facet
