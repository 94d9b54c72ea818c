#pragma once

#include <string_view>

#include "base/text.h"

namespace facet::test {

/// Is all of `text` well-formed UTF-8?
inline bool is_utf8(std::string_view text) {
  while (!text.empty()) {
    const size_t length = utf8_length(text);
    if (length == 0) return false;
    text.remove_prefix(length);
  }
  return true;
}

}  // namespace facet::test
