#include "server/http/sse_reader.h"

#include <utility>

namespace facet::http {

void SseReader::push(std::string_view bytes) {
  while (!bytes.empty()) {
    const bool after_cr = std::exchange(after_cr_, false);
    if (after_cr && bytes.front() == '\n') {  // the second half of one line end
      bytes.remove_prefix(1);
      continue;
    }
    const std::string_view up_to_lf = bytes.substr(0, bytes.find('\n'));
    const std::string_view line = up_to_lf.substr(0, up_to_lf.find('\r'));
    if (line.size() == bytes.size()) {
      line_ += line;
      return;
    }
    after_cr_ = bytes[line.size()] == '\r';
    take_line(line_.empty() ? line : std::string_view(line_ += line));
    line_.clear();
    bytes.remove_prefix(line.size() + 1);
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
