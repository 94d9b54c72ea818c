#pragma once

#include <fmt/core.h>
#include <initializer_list>
#include <string_view>
#include <utility>

namespace facet {

enum class LogLevel { kDebug, kInfo, kWarning, kError, kOff };

/// Lines below `level` are dropped from now on; the start is kInfo.
void set_log_level(LogLevel level);
bool log_enabled(LogLevel level);

/// Writes one line to stderr, or counts it as lost if that fails (a full disk, a reader that is
/// gone): the next line that can be written is preceded by one with their number. The line is
/// `level area message key=value …`. The message carries its key=value pairs itself. Control
/// characters in it are escaped, so a hostile file name cannot forge a line.
void log_line(LogLevel level, std::string_view area, std::string_view message);

/// Writes to stderr what is for people and no log. What cannot be written is lost.
void write_note(std::initializer_list<std::string_view> parts) noexcept;

template <typename... Args>
void print_note(fmt::format_string<Args...> format, Args&&... args) {
  write_note({fmt::format(format, std::forward<Args>(args)...)});
}

template <typename... Args>
void log_info(std::string_view area, fmt::format_string<Args...> format, Args&&... args) {
  if (log_enabled(LogLevel::kInfo))
    log_line(LogLevel::kInfo, area, fmt::format(format, std::forward<Args>(args)...));
}

template <typename... Args>
void log_warning(std::string_view area, fmt::format_string<Args...> format, Args&&... args) {
  if (log_enabled(LogLevel::kWarning))
    log_line(LogLevel::kWarning, area, fmt::format(format, std::forward<Args>(args)...));
}

template <typename... Args>
void log_error(std::string_view area, fmt::format_string<Args...> format, Args&&... args) {
  if (log_enabled(LogLevel::kError))
    log_line(LogLevel::kError, area, fmt::format(format, std::forward<Args>(args)...));
}

template <typename... Args>
void log_debug(std::string_view area, fmt::format_string<Args...> format, Args&&... args) {
  if (log_enabled(LogLevel::kDebug))
    log_line(LogLevel::kDebug, area, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace facet
