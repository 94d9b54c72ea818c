#pragma once

#include <boost/json/object.hpp>
#include <boost/json/value.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace facet {

/// Parses one JSON document: strict UTF-8, depth at most 64, no duplicate member names, nothing
/// after the end. Throws Error{kBadCheckpoint} that says what and at which byte.
boost::json::value parse_json(std::string_view text);
/// read_file + parse_json; the top level must be an object. The place of an error is the base name.
boost::json::object read_json_object(const std::string& path, int64_t limit_bytes = 16 << 20);

/// Typed access to the members of an object whose place ("config.json: text_config") goes into
/// messages. Each returns nullopt if the member is absent or null and throws Error{kBadCheckpoint}
/// naming the field, what was found and what was wanted if it has another type.
class JsonReader {
 public:
  JsonReader(const boost::json::object& object, std::string place)
      : object_(&object), place_(std::move(place)) {}

  std::optional<int64_t> integer(std::string_view name) const;
  std::optional<double> number(std::string_view name) const;
  std::optional<bool> boolean(std::string_view name) const;
  std::optional<std::string> string(std::string_view name) const;
  std::optional<std::vector<std::string>> strings(std::string_view name) const;
  /// An integer or a list of integers.
  std::optional<std::vector<int64_t>> integers(std::string_view name) const;
  std::optional<JsonReader> object(std::string_view name) const;
  const boost::json::value* find(std::string_view name) const;

  const boost::json::object& get() const { return *object_; }
  const std::string& place() const { return place_; }
  /// Throws Error{kBadCheckpoint} at place(), "field NAME: MESSAGE".
  [[noreturn]] void fail(std::string_view name, const std::string& message) const;

 private:
  const boost::json::object* object_;
  std::string place_;
};

}  // namespace facet
