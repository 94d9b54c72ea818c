#include "server/http/sse_reader.h"

#include <utility>

namespace facet::http {

void SseReader::push(std::string_view bytes) {
  for (const char byte : bytes) {
    const bool after_cr = std::exchange(after_cr_, byte == '\r');
    if (byte == '\n' && after_cr) continue;  // the second half of one line end
    if (byte == '\n' || byte == '\r') {
      take_line(line_);
      line_.clear();
    } else {
      line_ += byte;
    }
  }
}

void SseReader::take_line(std::string_view line) {
  if (line.empty()) {
    if (has_data_) on_data_(data_);
    data_.clear();
    has_data_ = false;
    return;
  }
  const size_t colon = line.find(':');
  if (line.substr(0, colon) != "data") return;
  std::string_view value =
      colon == std::string_view::npos ? std::string_view() : line.substr(colon + 1);
  if (!value.empty() && value.front() == ' ') value.remove_prefix(1);
  if (has_data_) data_ += '\n';
  data_ += value;
  has_data_ = true;
}

}  // namespace facet::http
