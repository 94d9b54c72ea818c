#include "tokenizer/utf8_stream.h"

#include <algorithm>
#include <cstdint>

#include "base/text.h"

namespace facet {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

}  // namespace

Utf8Head utf8_head(std::string_view text) {
  if (const size_t length = utf8_length(text); length > 0) return {length, Utf8State::kWhole};
  // The longest part that some continuation makes whole: filled up with the least and the greatest
  // byte that may follow, it must be a character.
  const size_t longest = std::min<size_t>(text.size(), 3);
  for (size_t length = longest; length > 0; --length) {
    for (const char fill : {'\x80', '\xBF'}) {
      std::string candidate(text.substr(0, length));
      while (candidate.size() < 4) {
        candidate += fill;
        if (utf8_length(candidate) == candidate.size()) {
          return {length, length == text.size() ? Utf8State::kUnfinished : Utf8State::kIllFormed};
        }
      }
    }
  }
  return {1, Utf8State::kIllFormed};
}

void append_wellformed(std::string& out, std::string& held, std::string_view bytes) {
  std::string joined;
  if (!held.empty()) {
    joined = held;
    joined += bytes;
    held.clear();
    bytes = joined;
  }
  while (!bytes.empty()) {
    const Utf8Head head = utf8_head(bytes);
    if (head.state == Utf8State::kUnfinished) {
      held = bytes;
      return;
    }
    out += head.state == Utf8State::kWhole ? bytes.substr(0, head.length) : kReplacement;
    bytes.remove_prefix(head.length);
  }
}

void flush_unfinished(std::string& out, std::string& held) {
  if (!held.empty()) out += kReplacement;
  held.clear();
}

}  // namespace facet
