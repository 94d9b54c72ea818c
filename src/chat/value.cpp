#include "chat/value.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <fmt/core.h>
#include <limits>
#include <unordered_map>
#include <utility>

#include "base/text.h"
#include "json/json_sax.h"

namespace facet {
namespace {

/// Where the first digit that is not zero stands, as a power of ten: 0 for 1 to 9.99. Tells a
/// number too big for a double from one too small.
bool magnitude_above_one(std::string_view text) {
  const size_t mark = text.find_first_of("eE");
  const std::string_view digits = text.substr(0, mark);
  const size_t first = digits.find_first_of("123456789");
  if (first == std::string_view::npos) return false;
  const size_t dot = std::min(digits.find('.'), digits.size());
  const auto position = static_cast<int64_t>(dot) - static_cast<int64_t>(first);
  if (mark == std::string_view::npos) return position > 0;
  std::string_view exponent = text.substr(mark + 1);
  if (exponent.front() == '+') exponent.remove_prefix(1);
  int64_t power = 0;
  const auto [end, failure] =
      std::from_chars(exponent.data(), exponent.data() + exponent.size(), power);
  if (failure != std::errc()) return exponent.front() != '-';
  // Both are far below the limits of int64_t unless the exponent alone decides.
  if (std::abs(power) > (int64_t{1} << 60)) return power > 0;
  return position + power > 0;
}

/// Handler of boost::json::basic_parser. Its double may miss the nearest one and it has no text of
/// long integers, so numbers are kept as text.
class ValueBuilder : public JsonSax {
 public:
  explicit ValueBuilder(const JsonLimits& limits) : limits_(limits) {}
  Value release() { return std::move(result_); }

  bool on_object_begin(Code& /*code*/) {
    open_.emplace_back();
    return true;
  }
  bool on_object_end(size_t /*members*/, Code& code) {
    Value::Object members = std::move(open_.back().members);
    open_.pop_back();
    return put(Value(std::move(members)), code);
  }
  bool on_array_begin(Code& /*code*/) {
    open_.emplace_back();
    open_.back().is_array = true;
    return true;
  }
  bool on_array_end(size_t /*elements*/, Code& code) {
    Value::Array elements = std::move(open_.back().elements);
    open_.pop_back();
    return put(Value(std::move(elements)), code);
  }
  bool on_key_part(Text text, size_t /*total*/, Code& /*code*/) { return append(text); }
  bool on_key(Text text, size_t /*total*/, Code& code) {
    append(text);
    if (++keys_ > limits_.keys) {
      return refuse(code, fmt::format("more than {} keys", limits_.keys), JsonFault::kTooLarge);
    }
    const bool refuses = limits_.duplicates == DuplicateKeys::kRefused;
    if (refuses && text_.find('\0') != std::string::npos)
      return refuse(code, "a key with a NUL character");
    if (refuses && open_.back().index.contains(text_)) {
      return refuse(code, fmt::format("the key \"{}\" appears twice", printable(text_, 60)),
                    JsonFault::kDuplicateKey);
    }
    open_.back().name = std::exchange(text_, {});
    return true;
  }
  bool on_string_part(Text text, size_t /*total*/, Code& /*code*/) { return append(text); }
  bool on_string(Text text, size_t /*total*/, Code& code) {
    append(text);
    return put(Value(std::exchange(text_, {})), code);
  }
  bool on_number_part(Text text, Code& /*code*/) { return append(text); }
  bool on_int64(int64_t /*value*/, Text text, Code& code) { return put_number(text, code); }
  bool on_uint64(uint64_t /*value*/, Text text, Code& code) { return put_number(text, code); }
  bool on_double(double /*value*/, Text text, Code& code) { return put_number(text, code); }
  bool on_bool(bool value, Code& code) { return put(Value(value), code); }
  bool on_null(Code& code) { return put(Value(), code); }

 private:
  /// An array or object whose end has not come yet.
  struct Container {
    bool is_array = false;
    Value::Array elements;
    Value::Object members;
    std::string name;                               // of the member to come
    std::unordered_map<std::string, size_t> index;  // of the members so far
  };

  bool append(Text text) {
    text_.append(text.data(), text.size());
    return true;
  }

  bool put_number(Text text, Code& code) {
    append(text);
    Number number{std::exchange(text_, {})};
    if (!number.is_integer() && !std::isfinite(number.as_double())) {
      return refuse(code,
                    fmt::format("number {} does not fit a double", printable(number.text, 40)));
    }
    return put(Value(std::move(number)), code);
  }

  bool put(Value value, Code& code) {
    if (open_.empty()) {
      result_ = std::move(value);
      return true;
    }
    Container& container = open_.back();
    if (container.is_array) {
      const bool number = value.kind() == Value::Kind::kNumber;
      int64_t& count = number ? numbers_ : elements_;
      const int64_t most = number ? limits_.numbers : limits_.elements;
      if (++count > most)
        return refuse(code, fmt::format("more than {} elements", most), JsonFault::kTooLarge);
      container.elements.push_back(std::move(value));
      return true;
    }
    const auto [at, added] = container.index.try_emplace(container.name, container.members.size());
    if (added) {
      container.members.push_back({std::move(container.name), std::move(value)});
    } else {
      container.members[at->second].value = std::move(value);
    }
    return true;
  }

  const JsonLimits limits_;
  int64_t keys_ = 0;
  int64_t elements_ = 0;
  int64_t numbers_ = 0;
  std::vector<Container> open_;  // outermost first
  std::string text_;             // of the key, string or number that is being read
  Value result_;
};

}  // namespace

std::optional<int64_t> Number::as_int64() const {
  int64_t value = 0;
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (failure != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

double Number::as_double() const {
  double value = 0.0;
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (failure == std::errc()) return value;
  const double size = magnitude_above_one(text) ? std::numeric_limits<double>::infinity() : 0.0;
  return text.starts_with('-') ? -size : size;
}

Value::Value() = default;
Value::Value(bool value) : data_(value) {}
Value::Value(Number value) : data_(std::move(value)) {}
Value::Value(std::string value) : data_(std::move(value)) {}
Value::Value(Array value) : data_(std::move(value)) {}
Value::Value(Object value) : data_(std::move(value)) {}
Value::~Value() = default;
Value::Value(const Value& other) = default;
Value::Value(Value&& other) noexcept = default;
Value& Value::operator=(const Value& other) = default;
Value& Value::operator=(Value&& other) noexcept = default;

const Value* Value::find(std::string_view name) const {
  if (!is_object()) return nullptr;
  for (const Member& member : object()) {
    if (member.name == name) return &member.value;
  }
  return nullptr;
}

const Value* Value::find_set(std::string_view name) const {
  const Value* value = find(name);
  return value == nullptr || value->is_null() ? nullptr : value;
}

bool Value::is_empty() const {
  switch (kind()) {
    case Kind::kNull:
      return true;
    case Kind::kBool:
      return !boolean();
    case Kind::kNumber:
      return number().as_double() == 0.0;
    case Kind::kString:
      return string().empty();
    case Kind::kArray:
      return array().empty();
    case Kind::kObject:
      return object().empty();
  }
  return true;
}

Value parse_value(std::string_view json, const JsonLimits& limits) {
  return run_json_parser<ValueBuilder>(json, ErrorCode::kBadInput, limits);
}

std::string_view kind_name(const Value& value) {
  switch (value.kind()) {
    case Value::Kind::kNull:
      return "null";
    case Value::Kind::kBool:
      return "a boolean";
    case Value::Kind::kNumber:
      return "a number";
    case Value::Kind::kString:
      return "a string";
    case Value::Kind::kArray:
      return "an array";
    case Value::Kind::kObject:
      return "an object";
  }
  return "nothing";
}

}  // namespace facet
