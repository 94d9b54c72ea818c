#include "traffic/pacer.h"

#include <csignal>
#include <utility>

namespace facet {

namespace {

constexpr auto kLook = std::chrono::milliseconds(100);

}  // namespace

using boost::system::error_code;
using Clock = std::chrono::steady_clock;

Pacer::Pacer(std::vector<double> arrivals, int32_t concurrency)
    : arrivals_(std::move(arrivals)), concurrency_(concurrency), signals_(io_, SIGINT, SIGTERM) {}

double Pacer::now_s() const { return std::chrono::duration<double>(Clock::now() - begin_).count(); }

void Pacer::run(const Hooks& hooks) {
  hooks_ = hooks;
  signals_.async_wait([this](const error_code& error, int /*number*/) {
    if (error) return;
    interrupted_ = true;
    hooks_.interrupt();
    start_due();
  });
  if (hooks_.look) look_again();
  start_due();
  io_.run();
}

void Pacer::ended() {
  --under_way_;
  start_due();
}

void Pacer::start_due() {
  while (next_ < arrivals_.size() && !interrupted_) {
    if (concurrency_ > 0 && under_way_ >= concurrency_) return;
    const double wait = arrivals_[next_] - now_s();
    if (wait > 0) {
      start_timer_.expires_after(
          std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(wait)));
      start_timer_.async_wait([this](const error_code& error) {
        if (!error) start_due();
      });
      return;
    }
    ++under_way_;
    hooks_.start(next_++);
  }
  if (under_way_ > 0) return;
  signals_.cancel();
  start_timer_.cancel();
  look_timer_.cancel();
  work_.reset();
}

void Pacer::look_again() {
  look_timer_.expires_after(kLook);
  look_timer_.async_wait([this](const error_code& error) {
    if (error || !work_.owns_work()) return;
    hooks_.look();
    if (work_.owns_work()) look_again();
  });
}

}  // namespace facet
