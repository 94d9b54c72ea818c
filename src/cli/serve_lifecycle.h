#pragma once

#include <atomic>
#include <chrono>
#include <exception>
#include <functional>
#include <future>
#include <optional>

#include "engine/engine.h"
#include "server/http/listener.h"
#include "server/http/loop.h"
#include "server/service.h"

namespace facet::cli {

/// Sees a server through to its end: signals, draining, an engine that fails. Lives on the loop's
/// thread, but for wait().
class ServeLifecycle {
 public:
  enum class End { kDrained, kEngineFailed };

  /// `reload` is called on SIGHUP. Before the loop starts.
  ServeLifecycle(http::Loop& loop,
                 Service& service,
                 http::Listener& listener,
                 std::chrono::seconds patience,
                 std::function<void()> reload);

  /// Any thread, before wait(): the model is there.
  void serving(const Engine& engine);
  /// Until the last request is answered after SIGTERM or SIGINT, or the engine has failed. Throws
  /// what something on the loop threw.
  End wait() { return end_.get_future().get(); }

 private:
  using Clock = std::chrono::steady_clock;

  void on_signal(int number);
  void check();
  void report();
  void finish(End end);
  void fault(std::exception_ptr what);

  http::Loop& loop_;
  Service& service_;
  http::Listener& listener_;
  const std::chrono::seconds patience_;
  const std::function<void()> reload_;

  std::atomic<bool> finished_{false};
  std::atomic<bool> loaded_{false};

  const Engine* engine_ = nullptr;
  bool draining_ = false;
  bool ended_all_ = false;
  Clock::time_point deadline_;
  std::optional<Clock::time_point> failed_at_;
  EngineStatus last_;  // when it was last reported
  Clock::time_point last_report_ = Clock::now();
  std::promise<End> end_;
};

}  // namespace facet::cli
