#include "cli/serve_lifecycle.h"

#include <csignal>
#include <cstdlib>
#include <unistd.h>
#include <utility>

#include "base/log.h"
#include "cli/exit_code.h"

namespace facet::cli {
namespace {

constexpr auto kLook = std::chrono::milliseconds(50);
constexpr auto kTick = std::chrono::seconds(1);
constexpr auto kReport = std::chrono::seconds(10);
/// For last errors to reach their clients.
constexpr auto kGrace = std::chrono::seconds(1);

}  // namespace

ServeLifecycle::ServeLifecycle(http::Loop& loop,
                               Service& service,
                               http::Listener& listener,
                               std::chrono::seconds patience,
                               std::function<void()> reload)
    : loop_(loop),
      service_(service),
      listener_(listener),
      patience_(patience),
      reload_(std::move(reload)) {
  loop.on_fault([this](std::exception_ptr what) { fault(std::move(what)); });
  loop.on_signals({SIGINT, SIGTERM, SIGHUP}, [this](int number) { on_signal(number); });
  loop.every(kLook, [this] { check(); });
  loop.every(kTick, [this] { service_.tick(); });
  loop.every(kReport, [this] { report(); });
}

void ServeLifecycle::serving(const Engine& engine) {
  loaded_ = true;
  loop_.post([this, &engine] {
    engine_ = &engine;
    last_ = engine.status();
    last_report_ = Clock::now();
  });
}

void ServeLifecycle::on_signal(int number) {
  if (number == SIGHUP) return reload_();
  if (engine_ == nullptr) {
    log_info("serve", "stopped while loading");
    _exit(0);  // the main thread is deep in the load, and nothing is there to be saved
  }
  if (draining_) {
    log_warning("serve", "stopped by a second signal");
    std::signal(number, SIG_DFL);
    std::raise(number);
    return;
  }
  log_info("serve", "draining live={} seconds={}", service_.live(), patience_.count());
  draining_ = true;
  deadline_ = Clock::now() + patience_;
  service_.drain();
  listener_.drain();
}

void ServeLifecycle::check() {
  const auto now = Clock::now();
  if (!failed_at_ && service_.engine_failed()) {
    log_warning("serve", "the engine has failed");
    failed_at_ = now;
  }
  // The engine has told its requests, unless it could not.
  if (failed_at_ && now - *failed_at_ > kGrace / 2 && !std::exchange(ended_all_, true))
    service_.end_all({ApiCode::kEngineError, "The engine has failed."});
  if (failed_at_ && now - *failed_at_ > kGrace) return finish(End::kEngineFailed);
  if (!draining_) return;
  if (service_.live() == 0 && listener_.busy_connections() == 0) return finish(End::kDrained);
  if (now < deadline_) return;
  if (!std::exchange(ended_all_, true))
    service_.end_all({ApiCode::kShuttingDown, "The server is shutting down."});
  if (now > deadline_ + kGrace) finish(End::kDrained);
}

void ServeLifecycle::report() {
  if (engine_ == nullptr) return;
  const EngineStatus status = engine_->status();
  const auto now = Clock::now();
  const double seconds = std::chrono::duration<double>(now - last_report_).count();
  const auto rate = [seconds](int64_t tokens) { return static_cast<double>(tokens) / seconds; };
  const int64_t in = status.prompt_tokens - last_.prompt_tokens;
  const int64_t out = status.generated_tokens - last_.generated_tokens;
  if (status.running + status.waiting > 0 || in + out > 0) {
    log_info("serve", "busy running={} waiting={} pages={:.0f}% in={:.1f}tok/s out={:.1f}tok/s",
             status.running, status.waiting, 100 * status.page_usage(), rate(in), rate(out));
  }
  last_ = status;
  last_report_ = now;
}

void ServeLifecycle::finish(End end) {
  if (!finished_.exchange(true)) end_.set_value(end);
}

void ServeLifecycle::fault(std::exception_ptr what) {
  if (!loaded_) {
    // The main thread is deep in the load, and nobody would answer meanwhile.
    try {
      std::rethrow_exception(std::move(what));
    } catch (...) {
      _exit(report_failure());
    }
  }
  if (!finished_.exchange(true)) end_.set_exception(std::move(what));
}

}  // namespace facet::cli
