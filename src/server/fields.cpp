#include "server/fields.h"

#include <algorithm>
#include <cmath>
#include <fmt/core.h>

#include "base/text.h"
#include "json/json_sax.h"

namespace facet {
namespace {

constexpr int64_t kMostKeys = 65536;
constexpr int64_t kMostElements = 65536;
constexpr int64_t kMostIds = 1048576;

ApiCode code_of(JsonFault fault) {
  switch (fault) {
    case JsonFault::kTooDeep:
      return ApiCode::kJsonTooDeep;
    case JsonFault::kDuplicateKey:
      return ApiCode::kDuplicateKey;
    case JsonFault::kTooLarge:
      return ApiCode::kJsonTooLarge;
    case JsonFault::kSyntax:
      break;
  }
  return ApiCode::kInvalidJson;
}

[[noreturn]] void fail_at(ApiCode code, const std::string& path, std::string_view message) {
  throw ApiError(code, path.empty() ? std::string(message) : fmt::format("{}: {}", path, message),
                 path);
}

[[noreturn]] void fail_kind(const std::string& path, const Value& found, std::string_view wanted) {
  fail_at(ApiCode::kInvalidType, path,
          fmt::format("found {}, wanted {}", kind_name(found), wanted));
}

}  // namespace

Value parse_body(std::string_view body) {
  try {
    return parse_value(body, {DuplicateKeys::kRefused, kMostKeys, kMostElements, kMostIds});
  } catch (const JsonError& error) {
    throw ApiError(code_of(error.fault()), "The body: " + error.message() + ".");
  }
}

int64_t whole_number(const Value& value, const std::string& path, int64_t least, int64_t most) {
  if (value.kind() != Value::Kind::kNumber) fail_kind(path, value, "a whole number");
  const Number& number = value.number();
  std::optional<int64_t> found = number.as_int64();
  if (!found) {
    const double as_double = number.as_double();
    const bool fits = std::abs(as_double) < 9.2e18;
    if (number.is_integer() || !fits)
      fail_at(ApiCode::kInvalidJson, path, "a number beyond 64 bits");
    if (as_double != std::trunc(as_double)) {
      fail_at(ApiCode::kInvalidType, path,
              fmt::format("found {}, wanted a whole number", printable(number.text, 40)));
    }
    found = static_cast<int64_t>(as_double);
  }
  if (*found == 0 && number.text.front() == '-')
    fail_at(ApiCode::kInvalidJson, path, "found -0, wanted a whole number");
  if (*found < least || *found > most) {
    fail_at(ApiCode::kInvalidValue, path,
            most == INT64_MAX || most == INT32_MAX
                ? fmt::format("found {}, wanted {} or more", *found, least)
                : fmt::format("found {}, wanted {} to {}", *found, least, most));
  }
  return *found;
}

bool is_plain_name(std::string_view text) {
  return !text.empty() && text.size() <= 64 && std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-';
  });
}

Fields::Fields(const Value& object, std::string path) : object_(&object), path_(std::move(path)) {
  if (object.is_object()) return;
  if (path_.empty()) {
    throw ApiError(ApiCode::kInvalidType,
                   fmt::format("The body: found {}, wanted an object.", kind_name(object)));
  }
  fail_kind(path_, object, "an object");
}

std::string Fields::path_of(std::string_view name) const {
  return path_.empty() ? std::string(name) : fmt::format("{}.{}", path_, name);
}

void Fields::fail(ApiCode code, std::string_view name, std::string_view message) const {
  fail_at(code, path_of(name), message);
}

const Value* Fields::find(std::string_view name) {
  know(name);
  return object_->find_set(name);
}

const Value& Fields::required(std::string_view name) {
  const Value* value = find(name);
  if (value == nullptr) fail(ApiCode::kMissingField, name, "is missing");
  return *value;
}

std::optional<int64_t> Fields::integer(std::string_view name, int64_t least, int64_t most) {
  const Value* value = find(name);
  if (value == nullptr) return std::nullopt;
  return whole_number(*value, path_of(name), least, most);
}

std::optional<int32_t> Fields::count(std::string_view name, int64_t least) {
  const std::optional<int64_t> found = integer(name, least, INT64_MAX);
  if (!found) return std::nullopt;
  return static_cast<int32_t>(std::min<int64_t>(*found, INT32_MAX));
}

std::optional<double> Fields::number(std::string_view name, double least, double most) {
  const Value* value = find(name);
  if (value == nullptr) return std::nullopt;
  if (value->kind() != Value::Kind::kNumber) fail_kind(path_of(name), *value, "a number");
  const double found = value->number().as_double();
  if (!(found >= least && found <= most)) {
    fail(ApiCode::kInvalidValue, name,
         fmt::format("found {}, wanted {} to {}", found, least, most));
  }
  return found;
}

std::optional<double> Fields::number_above(std::string_view name, double above, double most) {
  const std::optional<double> found = number(name, above, most);
  if (found && static_cast<float>(*found) <= static_cast<float>(above)) {
    fail(ApiCode::kInvalidValue, name,
         fmt::format("found {}, wanted more than {}, at most {}", *found, above, most));
  }
  return found;
}

std::optional<bool> Fields::boolean(std::string_view name) {
  const Value* value = find(name);
  if (value == nullptr) return std::nullopt;
  if (value->kind() != Value::Kind::kBool) fail_kind(path_of(name), *value, "true or false");
  return value->boolean();
}

const std::string* Fields::string(std::string_view name) {
  const Value* value = find(name);
  if (value == nullptr) return nullptr;
  if (!value->is_string()) fail_kind(path_of(name), *value, "a string");
  return &value->string();
}

const Value::Array* Fields::array(std::string_view name) {
  const Value* value = find(name);
  if (value == nullptr) return nullptr;
  if (!value->is_array()) fail_kind(path_of(name), *value, "an array");
  return &value->array();
}

std::optional<Fields> Fields::object(std::string_view name) {
  const Value* value = find(name);
  if (value == nullptr) return std::nullopt;
  return Fields(*value, path_of(name));
}

const std::string* Fields::name(std::string_view name) {
  const std::string* text = string(name);
  if (text != nullptr && !is_plain_name(*text)) {
    fail(ApiCode::kInvalidValue, name,
         fmt::format("found a string of {} bytes, wanted 1 to 64 of A-Z, a-z, 0-9, _ and -",
                     text->size()));
  }
  return text;
}

void Fields::ignore(std::initializer_list<std::string_view> names) {
  for (const std::string_view name : names) know(name);
}

void Fields::refuse(std::initializer_list<std::string_view> names) {
  for (const std::string_view name : names) {
    const Value* value = find(name);
    if (value != nullptr && !value->is_empty()) refuse_feature(name);
  }
}

void Fields::refuse_feature(std::string_view name) const {
  fail(ApiCode::kUnsupportedParameter, name, "is not supported by this server");
}

std::vector<std::string_view> Fields::unknown() const {
  std::vector<std::string_view> names;
  for (const Member& member : object_->object()) {
    if (std::find(known_.begin(), known_.end(), member.name) == known_.end())
      names.push_back(member.name);
  }
  return names;
}

}  // namespace facet
