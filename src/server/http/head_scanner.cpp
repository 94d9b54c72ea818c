#include "server/http/head_scanner.h"

namespace facet::http {

void HeadScanner::check_sizes(size_t seen) {
  const size_t line = seen - line_begin_;
  if (lines_ == 0) {
    if (line > limits_.request_line) fault_ = Fault::kUriTooLong;
  } else if (line > limits_.field || seen > limits_.head) {
    fault_ = Fault::kHeadersTooLarge;
  }
}

void HeadScanner::check_line(std::string_view head, size_t end) {
  // A line that starts with a blank continues the field before it.
  const bool folded = head[line_begin_] == ' ' || head[line_begin_] == '\t';
  if (folded) fault_ = Fault::kBadRequest;
  check_sizes(end);
  if (++lines_ > limits_.fields + 1 && !fault_) fault_ = Fault::kHeadersTooLarge;
}

size_t HeadScanner::scan(std::string_view head) {
  for (; at_ < head.size() && !fault_; ++at_) {
    const char c = head[at_];
    if (c == '\0' || c == '\n') fault_ = Fault::kBadRequest;
    if (c != '\r' || fault_) continue;
    if (at_ + 1 == head.size()) break;
    if (head[at_ + 1] != '\n') {
      fault_ = Fault::kBadRequest;
    } else if (at_ == line_begin_) {
      if (lines_ > 0) return at_ + 2;
      fault_ = Fault::kBadRequest;
    } else {
      check_line(head, at_);
      line_begin_ = at_ + 2;
      ++at_;
    }
  }
  if (!fault_) check_sizes(at_);
  return 0;
}

}  // namespace facet::http
