#include "base/check.h"

#include <cstdio>
#include <cstdlib>

namespace facet {

void check_failed(const char* file, int line, const char* condition, const std::string& text) {
  std::fprintf(stderr, "fatal %s:%d check failed: %s: %s\n", file, line, condition, text.c_str());
  std::abort();
}

}  // namespace facet
