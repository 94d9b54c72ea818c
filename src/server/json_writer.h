#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace facet {

/// Writes compact JSON on one line, members in the order given: answers and stream events, many
/// thousands a second. Strings must be UTF-8. Who calls it sees to it that the calls fit together.
class JsonWriter {
 public:
  JsonWriter& open_object();
  JsonWriter& close_object();
  JsonWriter& open_array();
  JsonWriter& close_array();
  JsonWriter& key(std::string_view name);

  JsonWriter& text(std::string_view value);
  JsonWriter& integer(int64_t value);
  /// The shortest digits that read back as the same float; infinities become -9999.0 (server-api
  /// 5.11).
  JsonWriter& logprob(float value);
  JsonWriter& number(double value);
  JsonWriter& boolean(bool value);
  JsonWriter& null();
  /// JSON made elsewhere.
  JsonWriter& raw(std::string_view json);

  JsonWriter& member(std::string_view name, std::string_view value) {
    return key(name).text(value);
  }
  JsonWriter& member(std::string_view name, const char* value) { return key(name).text(value); }
  JsonWriter& member(std::string_view name, int64_t value) { return key(name).integer(value); }
  JsonWriter& member(std::string_view name, int32_t value) { return key(name).integer(value); }
  JsonWriter& member(std::string_view name, bool value) { return key(name).boolean(value); }

  std::string_view view() const { return out_; }
  std::string release();

 private:
  void begin_value();

  std::string out_;
  bool comma_ = false;  // something precedes the next value or key at this level
};

}  // namespace facet
