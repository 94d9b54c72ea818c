#include "server/http/loop.h"

#include <boost/asio/post.hpp>
#include <csignal>
#include <utility>

#include "server/http/loop_impl.h"

namespace facet::http {

namespace asio = boost::asio;
using boost::system::error_code;

namespace {

void wait_again(asio::steady_timer& timer,
                std::chrono::milliseconds period,
                std::function<void()> body) {
  timer.expires_after(period);
  timer.async_wait([&timer, period, body = std::move(body)](const error_code& error) mutable {
    if (error) return;
    body();
    wait_again(timer, period, std::move(body));
  });
}

void wait_again(asio::signal_set& set, std::function<void(int)> body) {
  set.async_wait([&set, body = std::move(body)](const error_code& error, int number) mutable {
    if (error) return;
    body(number);
    wait_again(set, std::move(body));
  });
}

}  // namespace

Loop::Loop(int32_t helpers) : impl_(std::make_unique<Impl>(helpers)) {}

Loop::~Loop() { stop(); }

void Loop::on_fault(std::function<void(std::exception_ptr)> body) {
  impl_->on_fault = std::move(body);
}

void Loop::start() {
  const auto run = [this](asio::io_context& io) {
    try {
      io.run();
    } catch (...) {
      if (!impl_->on_fault) throw;
      impl_->on_fault(std::current_exception());
    }
  };
  impl_->threads.emplace_back([this, run] { run(impl_->io); });
  for (int32_t i = 0; i < impl_->helper_count; ++i)
    impl_->threads.emplace_back([this, run] { run(impl_->background); });
}

void Loop::stop() {
  impl_->io.stop();
  impl_->background.stop();
  for (std::thread& thread : impl_->threads) thread.join();
  impl_->threads.clear();
  impl_->after_pause.clear();  // while what they hold on to is there
}

void Loop::set_pause(std::chrono::milliseconds pause) { impl_->pause = pause; }

std::chrono::milliseconds Loop::pause() const { return impl_->pause; }

void Loop::post(std::function<void()> body) { asio::post(impl_->io, std::move(body)); }

void Loop::after_pause(std::function<void()> body) {
  impl_->after_pause.push_back(std::move(body));
  if (impl_->after_pause.size() > 1) return;
  impl_->pause_timer.expires_after(impl_->pause);
  impl_->pause_timer.async_wait([this](const error_code& error) {
    if (error) return;
    std::vector<std::function<void()>> bodies;
    bodies.swap(impl_->after_pause);
    for (const std::function<void()>& each : bodies) each();
  });
}

void Loop::in_background(std::function<void()> body) {
  asio::post(impl_->background, std::move(body));
}

void Loop::every(std::chrono::milliseconds period, std::function<void()> body) {
  wait_again(impl_->timers.emplace_back(impl_->io), period, std::move(body));
}

void Loop::on_signals(const std::vector<int>& signals, std::function<void(int)> body) {
  asio::signal_set& set = impl_->signals.emplace_back(impl_->io);
  for (const int number : signals) set.add(number);
  wait_again(set, std::move(body));
}

}  // namespace facet::http
