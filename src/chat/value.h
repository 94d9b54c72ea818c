#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace facet {

/// A JSON number as it was written. Whatever is not an integer in its spelling is a double.
struct Number {
  std::string text;  ///< digits as in the source: "-5", "1.0", "1e+20"

  /// No fraction and no exponent, however many digits.
  bool is_integer() const { return text.find_first_of(".eE") == std::string::npos; }
  /// Nothing if this is not an integer or does not fit.
  std::optional<int64_t> as_int64() const;
  /// The nearest double. Too small a number is a zero; parse_value refuses those that are too big
  /// unless they are integers, which become infinite here.
  double as_double() const;
};

struct Member;

/// A JSON value that keeps what boost::json::value loses: the order of members and a number's own
/// digits. Reading a kind that a value does not have is a bug of the caller: look at kind() first.
class Value {
 public:
  enum class Kind { kNull, kBool, kNumber, kString, kArray, kObject };
  using Array = std::vector<Value>;
  using Object = std::vector<Member>;

  Value();  ///< null
  explicit Value(bool value);
  explicit Value(Number value);
  explicit Value(std::string value);
  explicit Value(Array value);
  explicit Value(Object value);
  ~Value();
  Value(const Value& other);
  Value(Value&& other) noexcept;
  Value& operator=(const Value& other);
  Value& operator=(Value&& other) noexcept;

  Kind kind() const { return static_cast<Kind>(data_.index()); }
  bool is_null() const { return kind() == Kind::kNull; }
  bool is_string() const { return kind() == Kind::kString; }
  bool is_array() const { return kind() == Kind::kArray; }
  bool is_object() const { return kind() == Kind::kObject; }

  bool boolean() const { return std::get<bool>(data_); }
  const Number& number() const { return std::get<Number>(data_); }
  const std::string& string() const { return std::get<std::string>(data_); }
  const Array& array() const { return std::get<Array>(data_); }
  const Object& object() const { return std::get<Object>(data_); }

  /// The member of an object; nullptr if there is none or this is not an object.
  const Value* find(std::string_view name) const;
  /// As find(), but nullptr for a member that is null, too.
  const Value* find_set(std::string_view name) const;
  /// Is this null, "", [], {}, false or 0?
  bool is_empty() const;

 private:
  std::variant<std::monostate, bool, Number, std::string, Array, Object> data_;
};

struct Member {
  std::string name;
  Value value;
};

enum class DuplicateKeys { kLastCounts, kRefused };

/// What a document may hold beyond being JSON. The defaults refuse nothing.
struct JsonLimits {
  DuplicateKeys duplicates = DuplicateKeys::kLastCounts;  ///< kRefused: no key with a NUL either
  int64_t keys = INT64_MAX;                               ///< of all objects together
  int64_t elements = INT64_MAX;                           ///< of all arrays together, numbers apart
  int64_t numbers = INT64_MAX;                            ///< in all arrays together
};

/// Parses one JSON document: strict UTF-8, depth at most 64, nothing after the end. Where one name
/// may stand for several members the last value counts, at the place of the first. Throws
/// JsonError{kBadInput} (json/json_sax.h) that says what and at which byte.
Value parse_value(std::string_view json, const JsonLimits& limits = {});

/// As Value::find(); nullptr for no value, too.
inline const Value* find_in(const Value* value, std::string_view name) {
  return value == nullptr ? nullptr : value->find(name);
}

/// "null", "a string", "an object", …: for "found …, wanted …".
std::string_view kind_name(const Value& value);

}  // namespace facet
