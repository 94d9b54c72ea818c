#include "checkpoint/json.h"

#include <boost/json/serialize.hpp>
#include <boost/json/value_stack.hpp>
#include <charconv>
#include <cmath>
#include <filesystem>
#include <fmt/core.h>
#include <unordered_set>

#include "base/error.h"
#include "base/lfs_pointer.h"
#include "base/mapped_file.h"
#include "base/text.h"
#include "json/json_sax.h"

namespace facet {
namespace {

std::string_view plain(JsonSax::Text text) { return {text.data(), text.size()}; }

/// Builds the document and refuses a second member of the same name in one object, which
/// boost::json::parse would let win silently.
class ValueBuilder : public JsonSax {
 public:
  ValueBuilder() { stack_.reset(); }

  boost::json::value release() { return stack_.release(); }

  bool on_object_begin(Code& /*code*/) {
    names_.emplace_back();
    return true;
  }
  bool on_object_end(size_t members, Code& /*code*/) {
    names_.pop_back();
    stack_.push_object(members);
    return true;
  }
  bool on_array_begin(Code& /*code*/) { return true; }
  bool on_array_end(size_t elements, Code& /*code*/) {
    stack_.push_array(elements);
    return true;
  }
  bool on_key_part(Text text, size_t /*total*/, Code& /*code*/) {
    key_ += plain(text);
    stack_.push_chars(text);
    return true;
  }
  bool on_key(Text text, size_t /*total*/, Code& code) {
    key_ += plain(text);
    if (!names_.back().insert(key_).second)
      return refuse(code, fmt::format("duplicate name \"{}\"", printable(key_)));
    key_.clear();
    stack_.push_key(text);
    return true;
  }
  bool on_string_part(Text text, size_t /*total*/, Code& /*code*/) {
    stack_.push_chars(text);
    return true;
  }
  bool on_string(Text text, size_t /*total*/, Code& /*code*/) {
    stack_.push_string(text);
    return true;
  }
  bool on_number_part(Text text, Code& /*code*/) {
    number_ += plain(text);
    return true;
  }
  bool on_int64(int64_t value, Text /*text*/, Code& /*code*/) {
    number_.clear();
    stack_.push_int64(value);
    return true;
  }
  bool on_uint64(uint64_t value, Text /*text*/, Code& /*code*/) {
    number_.clear();
    stack_.push_uint64(value);
    return true;
  }
  bool on_double(double value, Text text, Code& code) {
    // Boost.JSON 1.81 may miss the nearest double by an ulp; from_chars does not.
    number_ += plain(text);
    double nearest = 0.0;
    const auto [end, failure] =
        std::from_chars(number_.data(), number_.data() + number_.size(), nearest);
    if (failure == std::errc()) value = nearest;
    if (!std::isfinite(value))
      return refuse(code, fmt::format("number {} does not fit a double", printable(number_, 40)));
    number_.clear();
    stack_.push_double(value);
    return true;
  }
  bool on_bool(bool value, Code& /*code*/) {
    stack_.push_bool(value);
    return true;
  }
  bool on_null(Code& /*code*/) {
    stack_.push_null();
    return true;
  }

 private:
  boost::json::value_stack stack_;
  std::vector<std::unordered_set<std::string>> names_;  // of the open objects, outermost first
  std::string key_;
  std::string number_;
};

/// What a value is, for "found …, wanted …".
std::string describe(const boost::json::value& value) {
  if (value.is_object()) return "an object";
  if (value.is_array()) return fmt::format("an array of {}", value.get_array().size());
  if (value.is_string()) {
    const boost::json::string& text = value.get_string();
    return fmt::format("the string \"{}\"", printable({text.data(), text.size()}, 60));
  }
  return boost::json::serialize(value);
}

std::optional<int64_t> as_integer(const boost::json::value& value) {
  if (value.is_int64()) return value.get_int64();
  return std::nullopt;
}

}  // namespace

boost::json::value parse_json(std::string_view text) {
  return run_json_parser<ValueBuilder>(text, ErrorCode::kBadCheckpoint);
}

boost::json::object read_json_object(const std::string& path, int64_t limit_bytes) {
  const std::string name = std::filesystem::path(path).filename().string();
  std::string text;
  try {
    text = read_file(path, limit_bytes);
  } catch (const Error& error) {
    throw Error(error.code(), error.message(), name);
  }
  return in_place(name, [&] {
    refuse_lfs_pointer(text);
    boost::json::value value = parse_json(text);
    if (!value.is_object()) {
      throw Error(ErrorCode::kBadCheckpoint,
                  fmt::format("found {} at the top level, wanted an object", describe(value)));
    }
    return std::move(value.get_object());
  });
}

const boost::json::value* JsonReader::find(std::string_view name) const {
  const boost::json::value* value = object_->if_contains({name.data(), name.size()});
  return value == nullptr || value->is_null() ? nullptr : value;
}

void JsonReader::fail(std::string_view name, const std::string& message) const {
  throw Error(ErrorCode::kBadCheckpoint, fmt::format("field {}: {}", printable(name), message),
              place_);
}

std::optional<int64_t> JsonReader::integer(std::string_view name) const {
  const boost::json::value* value = find(name);
  if (value == nullptr) return std::nullopt;
  const std::optional<int64_t> number = as_integer(*value);
  if (!number) fail(name, fmt::format("found {}, wanted an integer", describe(*value)));
  return number;
}

std::optional<double> JsonReader::number(std::string_view name) const {
  const boost::json::value* value = find(name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_number()) fail(name, fmt::format("found {}, wanted a number", describe(*value)));
  return value->to_number<double>();
}

std::optional<bool> JsonReader::boolean(std::string_view name) const {
  const boost::json::value* value = find(name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_bool())
    fail(name, fmt::format("found {}, wanted true or false", describe(*value)));
  return value->get_bool();
}

std::optional<std::string> JsonReader::string(std::string_view name) const {
  const boost::json::value* value = find(name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_string()) fail(name, fmt::format("found {}, wanted a string", describe(*value)));
  return std::string(value->get_string().data(), value->get_string().size());
}

std::optional<std::vector<std::string>> JsonReader::strings(std::string_view name) const {
  const boost::json::value* value = find(name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_array())
    fail(name, fmt::format("found {}, wanted a list of strings", describe(*value)));
  std::vector<std::string> result;
  for (const boost::json::value& element : value->get_array()) {
    if (!element.is_string()) {
      fail(name,
           fmt::format("element {} is {}, wanted a string", result.size(), describe(element)));
    }
    result.emplace_back(element.get_string().data(), element.get_string().size());
  }
  return result;
}

std::optional<std::vector<int64_t>> JsonReader::integers(std::string_view name) const {
  const boost::json::value* value = find(name);
  if (value == nullptr) return std::nullopt;
  if (const std::optional<int64_t> number = as_integer(*value)) return std::vector{*number};
  if (!value->is_array())
    fail(name, fmt::format("found {}, wanted an integer or a list of them", describe(*value)));
  std::vector<int64_t> result;
  for (const boost::json::value& element : value->get_array()) {
    const std::optional<int64_t> number = as_integer(element);
    if (!number) {
      fail(name,
           fmt::format("element {} is {}, wanted an integer", result.size(), describe(element)));
    }
    result.push_back(*number);
  }
  return result;
}

std::optional<JsonReader> JsonReader::object(std::string_view name) const {
  const boost::json::value* value = find(name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_object()) fail(name, fmt::format("found {}, wanted an object", describe(*value)));
  std::string place = place_.empty() ? std::string() : place_ + ": ";
  return JsonReader(value->get_object(), place + printable(name));
}

}  // namespace facet
