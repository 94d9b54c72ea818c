#pragma once

#include <optional>
#include <string_view>

#include "server/http/limits.h"
#include "server/http/message.h"

namespace facet::http {

/// Looks for the end of a request's head in bytes as they arrive and refuses what readers of HTTP
/// are known to disagree on: a line feed or carriage return alone, NUL, a folded field, and heads
/// over the limits (C-01, C-02, C-06).
class HeadScanner {
 public:
  explicit HeadScanner(const Limits& limits) : limits_(limits) {}

  /// `head` is all that has arrived of it so far, from the first byte of the request line. Returns
  /// how many bytes the head takes, its empty line included, or 0 if its end has not come. A fault
  /// is in fault() then.
  size_t scan(std::string_view head);
  const std::optional<Fault>& fault() const { return fault_; }

 private:
  /// The line [line_begin_, end) is complete; end is its carriage return.
  void check_line(std::string_view head, size_t end);
  void check_sizes(size_t seen);

  const Limits& limits_;
  std::optional<Fault> fault_;
  size_t at_ = 0;          // first byte not looked at
  size_t line_begin_ = 0;  // of the line being read
  int32_t lines_ = 0;      // complete ones, the request line included
};

}  // namespace facet::http
