#pragma once

#include <functional>
#include <string>
#include <string_view>

namespace facet::http {

/// Parts a text/event-stream into the data of its events, however the bytes arrive. Comments and
/// fields other than data are dropped (WHATWG HTML, 9.2.6).
class SseReader {
 public:
  /// Called with the data of each event.
  using OnData = std::function<void(std::string_view data)>;

  explicit SseReader(OnData on_data) : on_data_(std::move(on_data)) {}

  void push(std::string_view bytes);

 private:
  void take_line(std::string_view line);

  OnData on_data_;
  std::string line_;  // the part of a line that has come
  std::string data_;  // of the event that has begun
  bool has_data_ = false;
  bool after_cr_ = false;
};

}  // namespace facet::http
