#include "cli/progress.h"

#include <cstdio>
#include <fmt/core.h>
#include <unistd.h>

#include "base/log.h"
#include "base/text.h"

namespace facet::cli {
namespace {

using Clock = std::chrono::steady_clock;
constexpr auto kRedraw = std::chrono::milliseconds(100);

double seconds(Clock::duration duration) { return std::chrono::duration<double>(duration).count(); }

}  // namespace

Progress::Progress(std::string what, int64_t total, Unit unit)
    : what_(std::move(what)),
      total_(total),
      unit_(unit),
      terminal_(isatty(STDERR_FILENO) == 1),
      start_(Clock::now()),
      drawn_(start_) {}

std::string Progress::line(int64_t done) const {
  const double elapsed = seconds(Clock::now() - start_);
  const double rate = elapsed > 0 ? static_cast<double>(done) / elapsed : 0;
  if (unit_ == Unit::kBytes) {
    return fmt::format("{} {}/{}  {}/s  {:.1f} s", what_, human_bytes(done), human_bytes(total_),
                       human_bytes(static_cast<int64_t>(rate)), elapsed);
  }
  if (unit_ == Unit::kLayers || unit_ == Unit::kRequests) {
    return fmt::format("{} {}/{} {}  {:.1f} s", what_, done, total_,
                       unit_ == Unit::kLayers ? "layers" : "requests", elapsed);
  }
  return fmt::format("{} {}/{} tokens  {:.0f} tok/s  {:.1f} s", what_, done, total_, rate, elapsed);
}

void Progress::update(int64_t done) {
  done_ = done;
  const auto now = Clock::now();
  if (!terminal_ || now - drawn_ < kRedraw) return;
  drawn_ = now;
  print_note("\r\x1b[K{}", line(done));
  std::fflush(stderr);
}

void Progress::finish() {
  // A line that never had the time to be drawn is not worth one.
  if (terminal_ && drawn_ == start_) return;
  print_note("{}{}\n", terminal_ ? "\r\x1b[K" : "", line(done_));
}

}  // namespace facet::cli
