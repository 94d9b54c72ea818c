#pragma once

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "chat/value.h"
#include "server/api_error.h"

namespace facet {

/// The document of a request's body, with the strictness and limits of reliability 2.3. Throws
/// ApiError.
Value parse_body(std::string_view body);

/// Reads the members of one JSON object of a request and remembers which names it was asked for.
/// A member that is null counts as absent. Whatever does not fit throws ApiError that names the
/// member with its path, what was found and what was wanted.
class Fields {
 public:
  /// `path` of the object itself; empty for the body. The object must outlive this. Throws ApiError
  /// if it is none.
  explicit Fields(const Value& object, std::string path = {});

  /// The member, or nullptr.
  const Value* find(std::string_view name);
  const Value& required(std::string_view name);

  /// A whole number in [least, most]; 16.0 is one too. Booleans and strings never are.
  std::optional<int64_t> integer(std::string_view name, int64_t least, int64_t most);
  /// A count in [least, ∞); what is beyond 32 bits is as good as the largest that fits.
  std::optional<int32_t> count(std::string_view name, int64_t least);
  /// A number in [least, most].
  std::optional<double> number(std::string_view name, double least, double most);
  /// A number in (above, most].
  std::optional<double> number_above(std::string_view name, double above, double most);
  std::optional<bool> boolean(std::string_view name);
  bool flag(std::string_view name) { return boolean(name).value_or(false); }
  const std::string* string(std::string_view name);
  const Value::Array* array(std::string_view name);
  std::optional<Fields> object(std::string_view name);
  /// A string of 1 to 64 of [A-Za-z0-9_-].
  const std::string* name(std::string_view name);

  /// Members without effect.
  void ignore(std::initializer_list<std::string_view> names);
  /// Members of features that are not there: 400 unsupported_parameter unless null, false, 0, "",
  /// [] or {}.
  void refuse(std::initializer_list<std::string_view> names);
  [[noreturn]] void refuse_feature(std::string_view name) const;

  /// Members that nobody asked for.
  std::vector<std::string_view> unknown() const;

  std::string path_of(std::string_view name) const;
  [[noreturn]] void fail(ApiCode code, std::string_view name, std::string_view message) const;
  const Value& value() const { return *object_; }

 private:
  void know(std::string_view name) { known_.push_back(name); }

  const Value* object_;
  std::string path_;
  std::vector<std::string_view> known_;
};

/// The whole number that `value` is, in [least, most]; `path` names it in what is thrown.
int64_t whole_number(const Value& value, const std::string& path, int64_t least, int64_t most);

/// Is `text` 1 to 64 characters of [A-Za-z0-9_-]?
bool is_plain_name(std::string_view text);

}  // namespace facet
