#include "cli/message_lines.h"

#include <algorithm>

namespace facet::cli {
namespace {

constexpr std::string_view kMark = "\"\"\"";

bool is_mark_alone(std::string_view line) {
  const size_t first = std::min(line.find_first_not_of(" \t"), line.size());
  return line.substr(first, line.find_last_not_of(" \t") + 1 - first) == kMark;
}

}  // namespace

bool MessageLines::add(std::string_view line) {
  if (!begun_) is_command_ = line.starts_with('/');
  begun_ = true;
  const bool alone = is_mark_alone(line);
  if (alone) line = kMark;
  if (open_ && !just_opened_ && !alone) text_ += '\n';
  for (;;) {
    const size_t mark = line.find(kMark);
    text_ += line.substr(0, mark);
    if (mark == std::string_view::npos) break;
    open_ = !open_;
    line.remove_prefix(mark + kMark.size());
  }
  just_opened_ = alone && open_;
  return !open_;
}

}  // namespace facet::cli
