#include "base/log.h"

#include <cerrno>
#include <memory>
#include <mutex>
#include <spdlog/sinks/base_sink.h>
#include <spdlog/spdlog.h>
#include <string>
#include <unistd.h>

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

/// false if not all of it could be written.
bool write_all(std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = write(STDERR_FILENO, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return false;
    text.remove_prefix(static_cast<size_t>(written));
  }
  return true;
}

/// Lines to stderr, one system call each.
class LineSink final : public spdlog::sinks::base_sink<std::mutex> {
 protected:
  void sink_it_(const spdlog::details::log_msg& message) override {
    spdlog::memory_buf_t line;
    formatter_->format(message, line);
    if (lost_ > 0 && write_all(fmt::format("warning log lines lost count={}\n", lost_))) lost_ = 0;
    if (lost_ > 0 || !write_all({line.data(), line.size()})) ++lost_;
  }
  void flush_() override {}

 private:
  int64_t lost_ = 0;
};

/// The one logger. spdlog keeps its state behind a lock of its own, so this holds no other.
spdlog::logger& logger() {
  static spdlog::logger instance = [] {
    spdlog::logger made("facet", std::make_shared<LineSink>());
    made.set_pattern("%l %v");
    made.set_level(spdlog::level::info);
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

void write_note(std::initializer_list<std::string_view> parts) noexcept {
  for (const std::string_view part : parts) {
    if (!write_all(part)) return;
  }
}

}  // namespace facet
