#pragma once

#include <fmt/core.h>
#include <string>

namespace facet {

/// Prints a broken invariant with its place to stderr and aborts. Use CHECK, not this.
[[noreturn]] void check_failed(const char* file,
                               int line,
                               const char* condition,
                               const std::string& text);

}  // namespace facet

/// A bug of ours: prints the condition, the text with its values (fmt syntax) and the place,
/// aborts. User input must never reach one.
#define CHECK(condition, ...)                                                            \
  do {                                                                                   \
    if (!(condition)) [[unlikely]]                                                       \
      ::facet::check_failed(__FILE__, __LINE__, #condition, ::fmt::format(__VA_ARGS__)); \
  } while (false)

#ifdef NDEBUG
#define DCHECK(condition, ...) \
  do {                         \
  } while (false)
#else
#define DCHECK(condition, ...) CHECK(condition, __VA_ARGS__)
#endif
