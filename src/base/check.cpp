#include "base/check.h"

#include <cstdio>
#include <cstdlib>

namespace facet {

void check_failed(const char* condition, const std::string& text, std::source_location place) {
  std::fprintf(stderr, "fatal %s:%u check failed: %s: %s\n", place.file_name(),
               static_cast<unsigned>(place.line()), condition, text.c_str());
  std::abort();
}

}  // namespace facet
