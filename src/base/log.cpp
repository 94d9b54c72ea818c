#include "base/log.h"

#include <memory>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include "base/text.h"

namespace facet {
namespace {

spdlog::level::level_enum to_spdlog(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return spdlog::level::debug;
    case LogLevel::kInfo:
      return spdlog::level::info;
    case LogLevel::kWarning:
      return spdlog::level::warn;
    case LogLevel::kError:
      return spdlog::level::err;
    case LogLevel::kOff:
      break;
  }
  return spdlog::level::off;
}

/// The one logger. spdlog keeps its state behind a lock of its own, so this holds no other.
spdlog::logger& logger() {
  static spdlog::logger instance = [] {
    spdlog::logger made("facet", std::make_shared<spdlog::sinks::stderr_sink_mt>());
    made.set_pattern("%l %v");
    made.set_level(spdlog::level::info);
    made.flush_on(spdlog::level::warn);
    return made;
  }();
  return instance;
}

}  // namespace

void set_log_level(LogLevel level) { logger().set_level(to_spdlog(level)); }

bool log_enabled(LogLevel level) { return logger().should_log(to_spdlog(level)); }

void log_line(LogLevel level, std::string_view area, std::string_view message) {
  constexpr size_t kLineLimit = 4000;
  logger().log(to_spdlog(level), "{} {}", area, printable(message, kLineLimit));
}

}  // namespace facet
