#include "chat/stop_strings.h"

#include <algorithm>
#include <utility>

namespace facet {

StopStrings::StopStrings(std::vector<std::string> stops, StopText mode)
    : stops_(std::move(stops)), mode_(mode) {
  stops_.erase(std::remove(stops_.begin(), stops_.end(), std::string()), stops_.end());
  std::stable_sort(stops_.begin(), stops_.end(),
                   [](const std::string& a, const std::string& b) { return a.size() < b.size(); });
}

std::string StopStrings::push(std::string_view text) {
  if (matched_) return {};
  if (stops_.empty()) return std::string(text);
  held_ += text;
  return settle(Tail::kMayGrow);
}

std::string StopStrings::flush() { return settle(Tail::kComplete); }

std::string StopStrings::settle(Tail tail) {
  const std::string_view held = held_;
  size_t start = 0;
  bool may_grow = false;
  for (; start < held.size() && !matched_; ++start) {
    const std::string_view rest = held.substr(start);
    for (const std::string& stop : stops_) {
      if (rest.substr(0, stop.size()) == stop) {
        matched_ = stop;
        break;
      }
      may_grow = may_grow || (tail == Tail::kMayGrow && stop.compare(0, rest.size(), rest) == 0);
    }
    if (matched_ || may_grow) break;
  }
  std::string certain(held.substr(0, start));
  if (matched_ && mode_ == StopText::kKeep && !held_.empty()) certain += *matched_;
  held_.erase(0, matched_ ? held_.size() : start);
  return certain;
}

}  // namespace facet
