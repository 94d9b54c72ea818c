#include "engine/engine.h"

#include <algorithm>
#include <condition_variable>
#include <exception>
#include <functional>
#include <future>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

#include "base/log.h"
#include "engine/engine_core.h"
#include "engine/step_runner.h"

namespace facet {
namespace {

using Clock = std::chrono::steady_clock;

/// How often an idle engine shows that it lives.
constexpr auto kIdleTick = std::chrono::milliseconds(500);

/// What another thread wants of the core.
using Message = std::function<void(EngineCore&)>;

}  // namespace

class Engine::Impl {
 public:
  Impl(Model& model, Backend& backend, const EngineOptions& options)
      : runner_(make_thread_runner(model)),
        core_({model, backend.allocator(), *runner_, Clock::now}, options),
        limits_(core_.limits()),
        status_(core_.status()),
        thread_([this](const std::stop_token& stop) { work(stop); }) {}

  const EngineLimits& limits() const { return limits_; }

  std::variant<RequestHandle, Refusal> submit(Request request) {
    check_request(request, limits_.vocab_size);
    const auto tokens = std::ssize(request.prompt);
    if (tokens + request.max_tokens > limits_.max_model_len) return Refusal::kTooLong;
    const std::lock_guard lock(mu_);
    if (status_.failed) return Refusal::kFailed;
    if (draining_) return Refusal::kDraining;
    if (status_.waiting + inbox_requests_ >= limits_.max_queue) return Refusal::kQueueFull;
    if (waiting_tokens_ + inbox_tokens_ + tokens > limits_.max_queue_tokens)
      return Refusal::kQueueTokensFull;
    const auto handle = static_cast<RequestHandle>(++last_handle_);
    request.submitted = Clock::now();
    ++inbox_requests_;
    inbox_tokens_ += tokens;
    post([handle, request = std::move(request)](EngineCore& core) mutable {
      core.submit(handle, std::move(request));
    });
    return handle;
  }

  void cancel(RequestHandle handle, std::optional<int32_t> choice) {
    const std::lock_guard lock(mu_);
    post([=](EngineCore& core) { core.cancel(handle, choice); });
  }

  void drain() {
    const std::lock_guard lock(mu_);
    draining_ = true;
  }

  bool idle() const {
    const std::lock_guard lock(mu_);
    return status_.running + status_.waiting + inbox_requests_ == 0;
  }

  bool flush_prefix_cache() {
    const auto done = std::make_shared<std::promise<bool>>();  // a function can be copied
    flush_prefix_cache([done](bool dropped) { done->set_value(dropped); });
    return done->get_future().get();
  }

  void flush_prefix_cache(std::function<void(bool)> done) {
    const std::lock_guard lock(mu_);
    post([done = std::move(done)](EngineCore& core) { done(core.flush_prefix_cache()); });
  }

  EngineStatus status() const {
    const std::lock_guard lock(mu_);
    EngineStatus status = status_;
    status.waiting += inbox_requests_;
    return status;
  }

  const EngineMeters& meters() const { return core_.meters(); }

 private:
  /// mu_ is held.
  void post(Message message) {
    inbox_.push_back(std::move(message));
    arrived_.notify_one();
  }

  void work(const std::stop_token& stop) {
    while (!stop.stop_requested()) attempt([&] { round(stop); });
    attempt([&] {
      deliver(stop);  // it does not wait now
      core_.abort_all();
      publish();
      core_.tell();
    });
  }

  void round(const std::stop_token& stop) {
    deliver(stop);
    if (core_.idle()) {
      if (std::exchange(was_busy_, false)) core_.check_integrity();
      rested_ = !core_.rest();
    } else {
      was_busy_ = true;
      core_.turn();
    }
    publish();
    core_.tell();  // whoever hears of an end finds it in the status
  }

  /// Runs `body`. What a step throws comes back as its outcome; what throws here is the loop
  /// itself, for want of memory.
  template <typename Body>
  void attempt(const Body& body) {
    try {
      body();
      return;
    } catch (const std::exception& error) {
      log_error("engine", "the engine stops: {}", error.what());
    }
    {
      const std::lock_guard lock(mu_);
      status_.failed = true;
    }
    core_.give_up();
  }

  /// Hands over what came in. One message that throws does not take the others with it.
  void deliver(const std::stop_token& stop) {
    if (next_message_ == messages_.size()) {
      messages_ = wait_for_messages(stop);
      next_message_ = 0;
    }
    while (next_message_ < messages_.size()) {
      const Message message = std::move(messages_[next_message_++]);
      message(core_);
    }
  }

  /// What came in, without waiting if there is work.
  std::vector<Message> wait_for_messages(const std::stop_token& stop) {
    std::unique_lock lock(mu_);
    if (core_.idle() && rested_)
      arrived_.wait_for(lock, stop, kIdleTick, [this] { return !inbox_.empty(); });
    delivered_requests_ = inbox_requests_;
    delivered_tokens_ = inbox_tokens_;
    return std::exchange(inbox_, {});
  }

  void publish() {
    EngineStatus status = core_.status();
    if (core_.idle()) status.last_step = Clock::now();
    const std::lock_guard lock(mu_);
    status_ = std::move(status);
    waiting_tokens_ = core_.waiting_tokens();
    inbox_requests_ -= std::exchange(delivered_requests_, 0);
    inbox_tokens_ -= std::exchange(delivered_tokens_, 0);
  }

  // Owned by the engine thread.
  std::unique_ptr<StepRunner> runner_;
  EngineCore core_;
  std::vector<Message> messages_;  // handed over up to next_message_
  size_t next_message_ = 0;
  bool was_busy_ = false;
  bool rested_ = false;             // nothing is left to do in idle time
  int32_t delivered_requests_ = 0;  // of inbox_requests_: the core has them
  int64_t delivered_tokens_ = 0;

  const EngineLimits limits_;

  mutable std::mutex mu_;
  std::condition_variable_any arrived_;
  std::vector<Message> inbox_;  // from here on guarded by mu_
  int32_t inbox_requests_ = 0;  // taken, and not in status_ yet
  int64_t inbox_tokens_ = 0;
  int64_t waiting_tokens_ = 0;
  uint64_t last_handle_ = 0;
  bool draining_ = false;
  EngineStatus status_;  // as of the last turn

  std::jthread thread_;  // last: it uses the others
};

Engine::Engine(Model& model, Backend& backend, const EngineOptions& options)
    : impl_(std::make_unique<Impl>(model, backend, options)) {}

Engine::~Engine() = default;

std::variant<RequestHandle, Refusal> Engine::submit(Request request) {
  return impl_->submit(std::move(request));
}

void Engine::cancel(RequestHandle handle) { impl_->cancel(handle, std::nullopt); }

void Engine::cancel(RequestHandle handle, int32_t choice) { impl_->cancel(handle, choice); }

void Engine::drain() { impl_->drain(); }

bool Engine::idle() const { return impl_->idle(); }

bool Engine::flush_prefix_cache() { return impl_->flush_prefix_cache(); }

void Engine::flush_prefix_cache(std::function<void(bool)> done) {
  impl_->flush_prefix_cache(std::move(done));
}

const EngineLimits& Engine::limits() const { return impl_->limits(); }

EngineStatus Engine::status() const { return impl_->status(); }

const EngineMeters& Engine::meters() const { return impl_->meters(); }

double EngineStatus::page_usage() const {
  double most = 0;
  for (const Group& group : groups) most = std::max(most, group.usage());
  return most;
}

}  // namespace facet
